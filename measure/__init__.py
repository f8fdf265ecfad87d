"""What every measurement shares: callers, requests, counters, the machine, tables, pictures and reports."""
