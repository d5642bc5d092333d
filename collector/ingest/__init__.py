"""What is pushed to the collector: OpenTelemetry over HTTP and Prometheus remote write."""
