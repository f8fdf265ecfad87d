"""Prometheus' rules and Grafana's dashboard; and the same Prometheus on this machine."""
