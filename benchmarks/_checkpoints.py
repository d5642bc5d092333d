"""Checkpoints to measure with: real Llama directories of random weights, with a tokenizer trained on this machine."""

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 32_000
SPECIALS = ("<|pad|>", "<|bos|>", "<|eos|>")
TRAINING_CHARACTERS = 12_000_000
SHAPES: dict[str, dict[str, int]] = {
    "15m": {
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    },
    "110m": {
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_key_value_heads": 12,
    },
}


def make_checkpoint(directory: Path, size: str, dtype: str, seed: int) -> None:
    """Write a Llama of ``SHAPES[size]`` into ``directory``: its weights are drawn from ``seed``."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        head_dim=64,
        max_position_embeddings=2048,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        dtype=dtype,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **SHAPES[size],
    )
    transformers.LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(directory)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=_trained(),
        pad_token=SPECIALS[0],
        bos_token=SPECIALS[1],
        eos_token=SPECIALS[2],
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(directory)


def _trained() -> Tokenizer:
    """A byte-level BPE tokenizer of ``VOCABULARY`` tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    return tokenizer


def _texts() -> Iterator[str]:
    """Sources of Python's standard library, in order of path."""
    left = TRAINING_CHARACTERS
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" in path.parts:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")[:left]
        left -= len(text)
        yield text
        if not left:
            return
