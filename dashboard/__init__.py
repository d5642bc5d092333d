"""Show: the web dashboard."""
