"""One call: its steps, what is sent and read, retries and reports. Both clients run it."""
