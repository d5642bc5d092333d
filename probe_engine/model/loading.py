"""Make a model ready to run: from a Hugging Face directory, or the built-in ``tiny``."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch

from probe_engine.errors import ModelError
from probe_engine.model.collective import Collective, gathered, summed
from probe_engine.model.config import ModelConfig, read_config
from probe_engine.model.decoder import Decoder, Model
from probe_engine.model.layers import Weights
from probe_engine.model.linear import Linears, PlainLinear, panel_linears, pick_linear
from probe_engine.model.native_ops import NativeOps
from probe_engine.model.ops import Ops, pick_ops
from probe_engine.model.quantisation import BITS, QUANTIZATIONS, Quantiser
from probe_engine.model.shard import Shard, shard_config, shard_source
from probe_engine.model.tiny import NAME as TINY
from probe_engine.model.tiny import tiny
from probe_engine.model.tokenizer import Tokenizer, read_tokenizer
from probe_engine.model.weights import Source, assemble, dummy_source, random_source, read_weights

PHASES = ("config", "tokenizer", "weights", "kernels")  # kernels: built on first use, weights packed for them
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with all that serving it needs.

    config: of the whole model, also where ``model`` shares it with others. phases_s: how long each of ``PHASES`` took.
    """

    model: Model
    tokenizer: Tokenizer
    config: ModelConfig
    name: str
    phases_s: dict[str, float]
    quantization: str = "none"

    @property
    def dtype(self) -> str:
        """``float32``, ``bfloat16`` or ``float16``."""
        return str(self.model.dtype).removeprefix("torch.")

    @property
    def device(self) -> str:
        """``cpu``, ``cuda`` or ``cuda:N``."""
        return str(self.model.device)


@dataclass(frozen=True, slots=True)
class Share:
    """One rank's part in a model; ``connect`` meets the other ranks, once the weights are read."""

    shard: Shard
    connect: Callable[[torch.device], Collective]


def load_model(
    path_or_name: str,
    dtype: str = "float32",
    device: str = "auto",
    seed: int = 0,
    *,
    kernels: str = "auto",
    quantization: str = "none",
    share: Share | None = None,
    dummy_weights: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> LoadedModel:
    """Load the model at ``path_or_name``: a Hugging Face directory, or ``tiny`` (random weights from ``seed``).

    ``dtype``: a key of ``DTYPES``, or ``auto`` for the checkpoint's own. ``device``: ``auto`` (CUDA where there is
    one), or what torch understands. ``kernels``: see ``pick_ops``. ``quantization``: one of ``QUANTIZATIONS``.
    ``share``: this process computes only so much of the model. ``dummy_weights``: random numbers (from ``seed``) in the
    shapes of the directory's ``config.json``; beside it only the tokenizer is read, where there is one.
    Raises ``ModelError`` saying what is missing or unsupported, and where.
    """
    if quantization not in QUANTIZATIONS:
        raise ModelError(f"quantization is {quantization!r}; allowed: {', '.join(QUANTIZATIONS)}")
    on_device = pick_device(device)
    times = [clock()]
    directory = Path(path_or_name)
    config = whole_config(path_or_name)
    own_config = config if share is None else shard_config(config, share.shard)
    times.append(clock())
    if path_or_name == TINY or (dummy_weights and not (directory / "tokenizer.json").is_file()):
        tokenizer = tiny()[0]
    else:
        tokenizer = read_tokenizer(directory, config.eos_ids)
    _check_vocabulary(directory, tokenizer, config)
    times.append(clock())

    def build(tensor: Source) -> Weights:
        return assemble(own_config, tensor if share is None else shard_source(config, tensor, share.shard))

    if path_or_name == TINY:
        weights = build(random_source(config, seed, pick_dtype(dtype, "float32"), on_device))
    elif dummy_weights:
        weights = build(dummy_source(config, seed, pick_dtype(dtype, config.dtype), on_device))
    else:
        weights = read_weights(directory, config, pick_dtype(dtype, config.dtype), on_device, build)
    times.append(clock())
    ops = pick_ops(kernels, own_config, weights.embedding)
    linears = _linears(weights, quantization, kernels, ops)
    if share is not None:
        collective = share.connect(on_device)
        row, head = summed(linears.row, collective), gathered(linears.head, collective, config.vocab_size)
        linears = replace(linears, row=row, head=head)
    model = Decoder(own_config, weights, ops, linears)
    times.append(clock())
    spans_s = (after - before for before, after in pairwise(times))
    phases_s = dict(zip(PHASES, spans_s, strict=True))
    return LoadedModel(model, tokenizer, config, model_name(path_or_name), phases_s, quantization)


def model_name(path_or_name: str) -> str:
    """What a model is called: its directory's name as it was given, so that a link keeps its own."""
    path = Path(path_or_name)
    return (path.resolve() if path.name in {"", ".."} else path).name


def whole_config(path_or_name: str) -> ModelConfig:
    """The configuration of the model at ``path_or_name``."""
    return tiny()[1] if path_or_name == TINY else read_config(Path(path_or_name))


def _linears(weights: Weights, quantization: str, kernels: str, ops: Ops) -> Linears:
    if quantization == "none":
        exact = PlainLinear if kernels == "torch" else pick_linear(weights.embedding)
        if isinstance(ops, NativeOps) and ops.kernels.multiplies:
            return panel_linears(ops.kernels, exact)
        return Linears.all(exact)
    few_bits = Quantiser(BITS[quantization], weights.embedding, kernels)
    return Linears(few_bits, few_bits, PlainLinear if weights.head is weights.embedding else few_bits)


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
