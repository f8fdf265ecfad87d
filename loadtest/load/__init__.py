"""The load of a run: profiles (when), workloads (what), payloads, and the plan for each process."""
