"""What is passed on: samples by remote write, every OTLP signal by OTLP, each queued on disk until it is taken."""
