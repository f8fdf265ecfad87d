"""What all measurements share: callers, requests, counters, the machine, tables, pictures and reports."""
