"""The collector's HTTP side: Prometheus's API, pushes, spans, health and its own metrics."""
