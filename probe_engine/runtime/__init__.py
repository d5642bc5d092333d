"""The running engine: KV cache, runner and the loop that drives them."""
