"""What a decoder is made of, read from a Hugging Face ``config.json``: Llama, Mistral, Qwen2 and Qwen3.

Reads both layouts: transformers 5 (``rope_parameters``) and before (``rope_theta``, ``rope_scaling``).
What the decoder would compute wrongly is refused here, by name.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe_engine.errors import ModelError

# Fields that change the computation, with the only values that the decoder implements, whatever the architecture.
SUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "quantization_config": (None,),
    "use_sliding_window": (False,),
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """In what an architecture differs from Llama.

    qkv_bias: queries, keys and values have biases. qk_norm: each query and key head is normed before its rotation.
    window: what ``sliding_window`` means: attention is cut to it (True), it is ignored since ``use_sliding_window``
    governs it (None), or it must be absent (False). head_dim: where the file names none; None is
    ``hidden_size / num_attention_heads``.
    """

    model_type: str
    qkv_bias: bool = False
    qk_norm: bool = False
    window: bool | None = False
    head_dim: int | None = None


ARCHITECTURES: Mapping[str, Architecture] = {
    "LlamaForCausalLM": Architecture("llama"),
    "MistralForCausalLM": Architecture("mistral", window=True),
    "Qwen2ForCausalLM": Architecture("qwen2", qkv_bias=True, window=None),
    "Qwen3ForCausalLM": Architecture("qwen3", qk_norm=True, window=None, head_dim=128),
}


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding: base frequency and, where ``factor`` is given, Llama 3's scaling of it."""

    theta: float = 10_000.0
    factor: float | None = None
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_tokens: int = 8192


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Shapes and constants of a decoder; ``window``: keys that a query sees at most, its own included; None is all."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_tokens: int
    norm_eps: float = 1e-6
    tied: bool = False
    rope: Rope = Rope()
    dtype: str = "float32"
    eos_ids: frozenset[int] | None = None
    qkv_bias: bool = False
    qk_norm: bool = False
    window: int | None = None

    @property
    def parameters(self) -> int:
        """Number of weights."""
        attention = self.hidden_size * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        extra = self.head_dim * (self.heads + 2 * self.kv_heads) if self.qkv_bias else 0
        extra += 2 * self.head_dim if self.qk_norm else 0
        layer = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size + extra
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tied else 2)
        return self.layers * layer + embeddings + self.hidden_size

    def kv_bytes_per_token(self, element_bytes: int) -> int:
        """Bytes of keys and values that one token keeps in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * element_bytes


def read_config(directory: Path) -> ModelConfig:
    """The configuration of the model in ``directory``; ``ModelError`` names file, field, value and what is allowed."""
    path = directory / "config.json"
    if not directory.is_dir():
        raise ModelError(f"{directory}: no such directory; give a Hugging Face model directory, or 'tiny'")
    if not path.is_file():
        raise ModelError(f"{directory}: config.json is missing; a model directory needs one")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ModelError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ModelError(f"{path}: holds {type(raw).__name__}; a JSON object is expected")
    return parse_config(raw, path)


def parse_config(raw: Mapping[str, Any], path: Path) -> ModelConfig:
    """``config.json``'s content as a ``ModelConfig``; ``path`` is only for messages."""
    architecture = _architecture(raw, path)
    for field, allowed in SUPPORTED.items():
        if field in raw and raw[field] not in allowed:
            raise ModelError(f"{path}: {field} is {_short(raw[field])}; allowed: {_list(allowed)}")
    heads = _positive(raw, "num_attention_heads", path)
    kv_heads = _positive(raw, "num_key_value_heads", path, heads)
    hidden = _positive(raw, "hidden_size", path)
    if heads % kv_heads:
        raise ModelError(
            f"{path}: num_attention_heads is {heads}; it must be a multiple of num_key_value_heads, {kv_heads}"
        )
    if raw.get("head_dim") is None and architecture.head_dim is None and hidden % heads:
        raise ModelError(
            f"{path}: hidden_size is {hidden}; without head_dim it must be a multiple of num_attention_heads, {heads}"
        )
    head_dim = _positive(raw, "head_dim", path, architecture.head_dim or hidden // heads)
    if head_dim % 2:
        raise ModelError(f"{path}: head_dim is {head_dim}; it must be even")
    max_tokens = _positive(raw, "max_position_embeddings", path)
    return ModelConfig(
        vocab_size=_positive(raw, "vocab_size", path),
        hidden_size=hidden,
        intermediate_size=_positive(raw, "intermediate_size", path),
        layers=_positive(raw, "num_hidden_layers", path),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        max_tokens=max_tokens,
        norm_eps=_number(raw, "rms_norm_eps", path, 1e-6),
        tied=bool(raw.get("tie_word_embeddings", False)),
        rope=_rope(raw, path, max_tokens),
        dtype=str(raw.get("dtype") or raw.get("torch_dtype") or "float32"),
        eos_ids=token_ids(raw.get("eos_token_id"), path),
        qkv_bias=architecture.qkv_bias,
        qk_norm=architecture.qk_norm,
        window=_window(raw, path, architecture, max_tokens),
    )


def token_ids(value: Any, path: Path) -> frozenset[int] | None:
    """``eos_token_id`` as files write it: absent, a number or a list of numbers."""
    if value is None:
        return None
    numbers = value if isinstance(value, list) else [value]
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        raise ModelError(f"{path}: eos_token_id is {value!r}; a token id or a list of them is expected")
    return frozenset(numbers)


def _architecture(raw: Mapping[str, Any], path: Path) -> Architecture:
    names = raw.get("architectures")
    if names:
        found = [name for name in names if name in ARCHITECTURES] if isinstance(names, list) else []
        if not found:
            raise ModelError(f"{path}: architectures is {_short(names)}; allowed: {_list(tuple(ARCHITECTURES))}")
        return ARCHITECTURES[found[0]]
    by_type = {architecture.model_type: architecture for architecture in ARCHITECTURES.values()}
    if raw.get("model_type") not in by_type:
        raise ModelError(f"{path}: model_type is {_short(raw.get('model_type'))}; allowed: {_list(tuple(by_type))}")
    return by_type[str(raw["model_type"])]


def _window(raw: Mapping[str, Any], path: Path, architecture: Architecture, max_tokens: int) -> int | None:
    kinds = raw.get("layer_types")
    if kinds is not None and architecture.window is not True and set(kinds) != {"full_attention"}:
        raise ModelError(f"{path}: layer_types is {_short(kinds)}; allowed: 'full_attention' only")
    if raw.get("sliding_window") is None or architecture.window is None:
        return None
    if not architecture.window:
        raise ModelError(f"{path}: sliding_window is {_short(raw['sliding_window'])}; allowed: None")
    window = _positive(raw, "sliding_window", path)
    return window if window < max_tokens else None


def _rope(raw: Mapping[str, Any], path: Path, max_tokens: int) -> Rope:
    field = "rope_parameters" if raw.get("rope_parameters") is not None else "rope_scaling"
    scaling = raw.get(field)
    if scaling is not None and not isinstance(scaling, dict):
        raise ModelError(f"{path}: {field} is {_short(scaling)}; a JSON object is expected")
    scaling = scaling or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if scaling.get("partial_rotary_factor", 1.0) != 1.0 or raw.get("partial_rotary_factor", 1.0) != 1.0:
        raise ModelError(f"{path}: partial_rotary_factor is not 1; allowed: 1")
    theta = _number(scaling if "rope_theta" in scaling else raw, "rope_theta", path, 10_000.0)
    if kind == "default":
        return Rope(theta=theta)
    if kind != "llama3":
        raise ModelError(f"{path}: {field}.rope_type is {_short(kind)}; allowed: 'default', 'llama3'")
    return Rope(
        theta=theta,
        factor=_number(scaling, "factor", path),
        low_freq_factor=_number(scaling, "low_freq_factor", path),
        high_freq_factor=_number(scaling, "high_freq_factor", path),
        original_max_tokens=_positive(scaling, "original_max_position_embeddings", path, max_tokens),
    )


def _positive(raw: Mapping[str, Any], field: str, path: Path, default: int | None = None) -> int:
    value = raw.get(field)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        found = "is missing" if value is None else f"is {_short(value)}"
        raise ModelError(f"{path}: {field} {found}; a whole number from 1 up is needed")
    return value


def _number(raw: Mapping[str, Any], field: str, path: Path, default: float | None = None) -> float:
    value = raw.get(field)
    if value is None and default is not None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
        found = "is missing" if value is None else f"is {_short(value)}"
        raise ModelError(f"{path}: {field} {found}; a number over 0 is needed")
    return float(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _list(values: tuple[Any, ...]) -> str:
    return ", ".join(repr(value) for value in values)
