"""Request traces: the canonical form, how they are opened, described, cut out of runs and written."""
