"""``tiny``: a built-in model without files, for trying everything out and for tests.

Its weights are random (same seed, same weights), so it talks nonsense, at the same cost per token as any model of its
size: 0.1 million weights.
"""

import torch

from probe_engine.model.config import ModelConfig
from probe_engine.model.layers import Weights
from probe_engine.model.tokenizer import Tokenizer, byte_tokenizer
from probe_engine.model.weights import assemble, random_source

NAME = "tiny"


def tiny(seed: int, dtype: torch.dtype, device: torch.device) -> tuple[Weights, Tokenizer, ModelConfig]:
    """The weights, their byte-level tokenizer and its configuration."""
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
    return assemble(config, random_source(config, seed, dtype, device)), tokenizer, config
