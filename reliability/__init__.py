"""What production does to a server, done to a real Triton under load, with figures: `python -m reliability`."""
