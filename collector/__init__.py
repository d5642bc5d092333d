"""See, keep, answer: scrapes engines and GPUs, stores what they say, answers PromQL over the Prometheus HTTP API."""
