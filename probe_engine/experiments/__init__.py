"""What paging, batching, priorities, prefix reuse and limits do to latency and cost: one experiment a file."""
