"""Play a request trace against a real server: open loop, on the trace's own clock."""
