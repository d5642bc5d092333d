"""The machine that the collector runs on, and the processes that it supervises."""
