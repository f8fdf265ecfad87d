"""From what was measured to rates that nobody measured: caches, replicas, network. A calculation, not a load test."""
