"""The model: a Llama-architecture decoder, its weights, its tokenizer and its sampler."""
