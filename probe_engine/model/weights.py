"""Read a model's weights from safetensors files, checked tensor by tensor.

A directory holds ``model.safetensors``, or several files with ``model.safetensors.index.json``. Every tensor that the
architecture has must be there with its shape, and no other: a silent mismatch would give plausible nonsense.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from probe_engine.errors import ModelError
from probe_engine.model.config import ModelConfig
from probe_engine.model.layers import Layer, Weights

EMBEDDING, NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
DERIVED_SUFFIX = ".rotary_emb.inv_freq"  # old checkpoints store what config.json already says

Shape = tuple[int, ...]
Source = Callable[[str], torch.Tensor]


def expected_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Name and shape of every tensor that a checkpoint of ``config`` holds."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    layer: dict[str, Shape] = {
        "input_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (queries, hidden),
        "self_attn.k_proj.weight": (keys, hidden),
        "self_attn.v_proj.weight": (keys, hidden),
        "self_attn.o_proj.weight": (hidden, queries),
        "post_attention_layernorm.weight": (hidden,),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
    }
    if config.qkv_bias:
        sizes = {"q": queries, "k": keys, "v": keys}
        layer |= {f"self_attn.{part}_proj.bias": (size,) for part, size in sizes.items()}
    if config.qk_norm:
        layer |= {f"self_attn.{part}_norm.weight": (config.head_dim,) for part in "qk"}
    shapes: dict[str, Shape] = {EMBEDDING: (config.vocab_size, hidden), NORM: (hidden,)}
    if not config.tied:
        shapes[HEAD] = (config.vocab_size, hidden)
    for index in range(config.layers):
        shapes |= {f"model.layers.{index}.{part}": shape for part, shape in layer.items()}
    return shapes


def read_weights(
    directory: Path,
    config: ModelConfig,
    dtype: torch.dtype,
    device: torch.device,
    build: Callable[[Source], Weights] | None = None,
) -> Weights:
    """Weights of the checkpoint in ``directory``; ``ModelError`` names files and tensors missing or too many.

    ``build`` makes them from the source of tensors, which is open only meanwhile; None is ``assemble``.
    """
    with ExitStack() as stack:
        files = {path: stack.enter_context(_opened(path)) for path in _files(directory)}
        where = {name: handle for handle in files.values() for name in handle.keys()}  # noqa: SIM118 (not a dict)
        _check(directory, config, {name: tuple(handle.get_slice(name).get_shape()) for name, handle in where.items()})

        def tensor(name: str) -> torch.Tensor:
            found: torch.Tensor = where[name].get_tensor(name)
            return found.to(device=device, dtype=dtype)

        if config.tied and HEAD in where and not torch.equal(tensor(HEAD), tensor(EMBEDDING)):
            raise ModelError(f"{directory}: {HEAD} differs from {EMBEDDING}, but config.json says tie_word_embeddings")
        return assemble(config, tensor) if build is None else build(tensor)


def assemble(config: ModelConfig, tensor: Source) -> Weights:
    """Weights from a source of single tensors by checkpoint name; those that share an input are stacked."""
    embedding = tensor(EMBEDDING)
    layers = tuple(_layer(config, f"model.layers.{index}", tensor) for index in range(config.layers))
    return Weights(
        embedding=embedding, layers=layers, norm=tensor(NORM), head=embedding if config.tied else tensor(HEAD)
    )


def _layer(config: ModelConfig, prefix: str, tensor: Source) -> Layer:
    def stacked(*parts: str) -> torch.Tensor:
        return torch.cat([tensor(f"{prefix}.{part}") for part in parts])

    projections = [f"self_attn.{part}_proj" for part in "qkv"]
    norms = [f"{prefix}.self_attn.{part}_norm.weight" for part in "qk"]
    return Layer(
        attention_norm=tensor(f"{prefix}.input_layernorm.weight"),
        qkv=stacked(*(f"{part}.weight" for part in projections)),
        output=tensor(f"{prefix}.self_attn.o_proj.weight"),
        mlp_norm=tensor(f"{prefix}.post_attention_layernorm.weight"),
        gate_up=stacked("mlp.gate_proj.weight", "mlp.up_proj.weight"),
        down=tensor(f"{prefix}.mlp.down_proj.weight"),
        qkv_bias=stacked(*(f"{part}.bias" for part in projections)) if config.qkv_bias else None,
        head_norms=(tensor(norms[0]), tensor(norms[1])) if config.qk_norm else None,
    )


def _opened(path: Path) -> Any:
    try:
        return safe_open(str(path), framework="pt")
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a readable safetensors file: {error}") from error


def _files(directory: Path) -> list[Path]:
    index = directory / "model.safetensors.index.json"
    single = directory / "model.safetensors"
    if index.is_file():
        return _shards(index)
    if single.is_file():
        return [single]
    others = sorted(path.name for path in directory.iterdir() if path.suffix in {".bin", ".pt", ".pth", ".gguf"})
    found = f"; found {', '.join(others)}, which is not read" if others else ""
    raise ModelError(f"{directory}: no model.safetensors and no model.safetensors.index.json{found}")


def _shards(index: Path) -> list[Path]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index}: no weight_map from tensor to file: {error!r}") from error
    for name in names:
        if Path(name).name != name:
            raise ModelError(f"{index}: shard {name!r} is not a file name beside the index")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise ModelError(f"{index}: names files that are missing: {_some(missing)}")
    return [index.parent / name for name in names]


def _check(directory: Path, config: ModelConfig, found: Mapping[str, Shape]) -> None:
    expected = expected_shapes(config)
    missing = sorted(expected.keys() - found.keys())
    if missing:
        raise ModelError(f"{directory}: the checkpoint lacks {len(missing)} tensors: {_some(missing)}")
    allowed = expected.keys() | ({HEAD} if config.tied else set())
    extra = sorted(name for name in found.keys() - allowed if not name.endswith(DERIVED_SUFFIX))
    if extra:
        raise ModelError(
            f"{directory}: the checkpoint has {len(extra)} tensors that its config.json has no use for: {_some(extra)}"
        )
    for name, shape in expected.items():
        if found[name] != shape:
            raise ModelError(f"{directory}: {name} has shape {found[name]}; config.json makes it {shape}")


def _some(names: Iterable[str], most: int = 6) -> str:
    listed = list(names)
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + rest


def random_source(config: ModelConfig, seed: int, dtype: torch.dtype, device: torch.device) -> Source:
    """Tensors of a model that has learned nothing: seeded, in the order of ``expected_shapes``, norms all one."""
    tensors = dict(_random_tensors(config, seed))
    return lambda name: tensors.pop(name).to(device=device, dtype=dtype)


def dummy_source(config: ModelConfig, seed: int, dtype: torch.dtype, device: torch.device) -> Source:
    """Tensors of random numbers made where they are needed, one at a time: for a model of any size, without its files.

    Each tensor's numbers depend on ``seed``, its place among ``expected_shapes`` and the kind of device.
    """
    shapes = expected_shapes(config)
    places = {name: place for place, name in enumerate(shapes)}

    def tensor(name: str) -> torch.Tensor:
        shape = shapes[name]
        if len(shape) == 1:
            return torch.ones(shape, dtype=dtype, device=device)
        generator = torch.Generator(device).manual_seed(seed * len(shapes) + places[name])
        return torch.empty(shape, dtype=dtype, device=device).normal_(0.0, shape[1] ** -0.5, generator=generator)

    return tensor


def _random_tensors(config: ModelConfig, seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for name, shape in expected_shapes(config).items():
        if len(shape) == 1:
            yield name, torch.ones(shape)
        else:
            yield name, torch.randn(shape, generator=generator) * shape[1] ** -0.5
