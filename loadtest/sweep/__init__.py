"""Search for the config settings that serve a workload best."""
