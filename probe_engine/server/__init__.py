"""The engine over HTTP: OpenAI's API, health, metadata and metrics."""
