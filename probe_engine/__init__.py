"""Serve, and be seen: an instrumented reference inference engine."""
