"""The search for the settings that serve a workload best."""
