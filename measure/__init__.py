"""Shared by all measurements: callers, requests, counters, the machine, tables, pictures and reports."""
