"""Make a model ready to run: from a Hugging Face directory, or the built-in ``tiny``."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from probe_engine.errors import ModelError
from probe_engine.model.config import ModelConfig, read_config
from probe_engine.model.decoder import Decoder
from probe_engine.model.linear import pick_linear, plain
from probe_engine.model.ops import pick_ops
from probe_engine.model.tiny import NAME as TINY
from probe_engine.model.tiny import tiny
from probe_engine.model.tokenizer import Tokenizer, read_tokenizer
from probe_engine.model.weights import read_weights

PHASES = ("config", "tokenizer", "weights", "kernels")  # kernels: built on first use, weights packed for them
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with all that serving it needs.

    ``phases_s`` tells how long each of ``PHASES`` took.
    """

    model: Decoder
    tokenizer: Tokenizer
    config: ModelConfig
    name: str
    phases_s: dict[str, float]

    @property
    def dtype(self) -> str:
        """``float32``, ``bfloat16`` or ``float16``."""
        return str(self.model.dtype).removeprefix("torch.")

    @property
    def device(self) -> str:
        """``cpu``, ``cuda`` or ``cuda:N``."""
        return str(self.model.device)


def load_model(
    path_or_name: str,
    dtype: str = "float32",
    device: str = "auto",
    seed: int = 0,
    *,
    kernels: str = "auto",
    clock: Callable[[], float] = time.perf_counter,
) -> LoadedModel:
    """Load the model at ``path_or_name``: a Hugging Face directory, or ``tiny`` (random weights from ``seed``).

    ``dtype``: a key of ``DTYPES``, or ``auto`` for the checkpoint's own. ``device``: ``auto`` (CUDA where there is
    one), or what torch understands. ``kernels``: ``auto``, ``native`` or ``torch``, see ``pick_ops``.
    Raises ``ModelError`` saying what is missing or unsupported, and where.
    """
    on_device = pick_device(device)
    times = [clock()]
    if path_or_name == TINY:
        weights, tokenizer, config = tiny(seed, pick_dtype(dtype, "float32"), on_device)
        times += [times[0], times[0], clock()]
        name = TINY
    else:
        directory = Path(path_or_name)
        config = read_config(directory)
        times.append(clock())
        tokenizer = read_tokenizer(directory, config.eos_ids)
        _check_vocabulary(directory, tokenizer, config)
        times.append(clock())
        weights = read_weights(directory, config, pick_dtype(dtype, config.dtype), on_device)
        times.append(clock())
        name = directory.resolve().name
    ops = pick_ops(kernels, config, weights.embedding)
    model = Decoder(config, weights, ops, plain if kernels == "torch" else pick_linear(weights.embedding))
    times.append(clock())
    spans_s = (after - before for before, after in pairwise(times))
    return LoadedModel(model, tokenizer, config, name, dict(zip(PHASES, spans_s, strict=True)))


def _check_vocabulary(directory: Path, tokenizer: Tokenizer, config: ModelConfig) -> None:
    if tokenizer.vocab_size > config.vocab_size:
        raise ModelError(
            f"{directory}: tokenizer.json has {tokenizer.vocab_size} tokens; "
            f"config.json's vocab_size is {config.vocab_size}"
        )


def pick_dtype(wanted: str, of_checkpoint: str) -> torch.dtype:
    """The torch dtype by its name; ``auto`` is the checkpoint's own."""
    name = of_checkpoint if wanted == "auto" else wanted
    if name not in DTYPES:
        raise ModelError(f"dtype is {name!r}; allowed: auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def pick_device(wanted: str) -> torch.device:
    """The torch device by its name; ``auto`` is CUDA where there is one, else the CPU."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ModelError(f"device is {wanted!r}; allowed: auto, cpu, cuda, cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device is {wanted!r}, but torch sees no CUDA device here; allowed: auto, cpu")
    return device
