"""Report of a judged run: page, summary and JUnit XML."""
