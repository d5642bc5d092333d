"""What `loadline plan` and `loadline replay` ask for, and what they say: one file per command, options once."""
