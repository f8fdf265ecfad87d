"""Faults injected into a real Triton under load, with figures: `python -m reliability`."""
