"""``tiny``: a built-in model without files, for trying everything out and for tests.

Its weights are random (same seed, same weights), so it talks nonsense, at the same cost per token as any model of its
size: 0.1 million weights.
"""

from probe_engine.model.config import ModelConfig
from probe_engine.model.tokenizer import Tokenizer, byte_tokenizer

NAME = "tiny"


def tiny() -> tuple[Tokenizer, ModelConfig]:
    """Its byte-level tokenizer and its configuration; ``random_source`` gives the weights."""
    tokenizer = byte_tokenizer()
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=64,
        intermediate_size=128,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=32,
        max_tokens=8192,
        norm_eps=1e-5,
        eos_ids=tokenizer.eos_ids,
    )
    return tokenizer, config
