"""A judged run as a page, a summary and JUnit XML."""
