"""How long an engine step takes: evidence, fits, models, and whether they still hold."""
