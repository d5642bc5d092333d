"""In front of one or many replicas of any OpenAI-compatible engine: limits, breaker, routing, cache. No torch."""
