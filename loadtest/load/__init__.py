"""What is asked for, and when: profiles, workloads, payloads, and the plan of a run."""
