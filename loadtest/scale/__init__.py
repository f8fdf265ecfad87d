"""Calculation of replicas, network and caches for rates beyond what was measured. No load is sent."""
