"""Prometheus' rules and Grafana's dashboard; the same Prometheus on this machine, and a picture of the dashboard."""
