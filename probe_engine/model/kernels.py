"""Build ``kernels.cpp`` on first use and call it.

The library lies in the user's cache directory, under a name made of its source, the compiler and this processor, so
another machine or version builds its own. Without a compiler the engine runs on torch alone.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("kernels.cpp")
COMPILERS = ("g++", "c++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared")
LANES = 16  # floats in one vector of kernels.cpp: sizes must be multiples of it
PANEL = 32  # columns of a matrix product in kernels.cpp
BUILD_LIMIT_S = 120.0

Pair = tuple[torch.Tensor, torch.Tensor]
HeadShape = tuple[int, int, int, int]  # heads, kv_heads, head_dim, block_size

_POINTER, _COUNT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_SIGNATURES: Mapping[str, tuple[type, ...]] = {
    "attend": (_POINTER,) * 6 + (_COUNT,) * 8,
    "attend_chunks": (_POINTER,) * 8 + (_COUNT,) * 8,
    "rotate_and_store": (_POINTER,) * 7 + (_COUNT,) * 6,
    "add_and_norm": (_POINTER,) * 4 + (_COUNT, _COUNT, _FLOAT, _COUNT),
    "norm_heads": (_POINTER,) * 3 + (_COUNT,) * 4 + (_FLOAT, _COUNT),
    "unpack": (_POINTER,) * 3 + (_COUNT,) * 5,
    "gate": (_POINTER,) * 2 + (_COUNT,) * 3,
    "likeliest": (_POINTER,) * 2 + (_COUNT,) * 3,
}


class KernelsUnavailable(Exception):
    """The kernels cannot be built or loaded here; the message says why. Never leaves the model package."""


class Kernels:
    """The built library, for one element type. Tensors must be contiguous and on the CPU; nothing else is checked."""

    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        suffix = str(dtype).removeprefix("torch.")
        for name, arguments in _SIGNATURES.items():
            function = getattr(library, f"{name}_{suffix}")
            function.argtypes, function.restype = arguments, None
            setattr(self, f"_{name}", function)
        self._multiply: ctypes._NamedFuncPointer | None = getattr(library, f"multiply_{suffix}", None)
        if self._multiply is not None:
            self._multiply.argtypes, self._multiply.restype = (_POINTER,) * 4 + (_COUNT,) * 5, None

    @property
    def multiplies(self) -> bool:
        """Whether ``multiply`` is there: bfloat16, on a processor that has its dot products (AVX-512 BF16)."""
        return self._multiply is not None

    _attend: "ctypes._NamedFuncPointer"
    _attend_chunks: "ctypes._NamedFuncPointer"
    _rotate_and_store: "ctypes._NamedFuncPointer"
    _add_and_norm: "ctypes._NamedFuncPointer"
    _norm_heads: "ctypes._NamedFuncPointer"
    _unpack: "ctypes._NamedFuncPointer"
    _gate: "ctypes._NamedFuncPointer"
    _likeliest: "ctypes._NamedFuncPointer"

    def attend(
        self,
        qkv: torch.Tensor,
        cache: Pair,
        tables: torch.Tensor,
        contexts: torch.Tensor,
        out: torch.Tensor,
        shape: HeadShape,
        window: int | None = None,
    ) -> None:
        """Attention of the first ``len(contexts)`` rows of ``qkv``, written to the same rows of ``out``.

        ``window``: keys that a row sees at most, its own included.
        """
        self._attend(
            qkv.data_ptr(),
            cache[0].data_ptr(),
            cache[1].data_ptr(),
            tables.data_ptr(),
            contexts.data_ptr(),
            out.data_ptr(),
            len(contexts),
            tables.shape[1],
            *shape,
            window or 0,
            torch.get_num_threads(),
        )

    def attend_chunks(
        self,
        qkv: torch.Tensor,
        cache: Pair,
        tables: torch.Tensor,
        spans: torch.Tensor,
        out: torch.Tensor,
        shape: HeadShape,
        window: int | None = None,
    ) -> None:
        """Attention of chunks of several rows of ``qkv``, written to the same rows of ``out``.

        ``tables`` (chunks, blocks) int64; ``spans`` (3, chunks) int64: first rows, first positions, numbers of rows.
        """
        self._attend_chunks(
            qkv.data_ptr(),
            cache[0].data_ptr(),
            cache[1].data_ptr(),
            tables.data_ptr(),
            *(span.data_ptr() for span in spans),
            out.data_ptr(),
            *tables.shape,
            *shape,
            window or 0,
            torch.get_num_threads(),
        )

    def rotate_and_store(
        self,
        qkv: torch.Tensor,
        positions: torch.Tensor,
        slots: torch.Tensor,
        angles: Pair,
        cache: Pair,
        shape: HeadShape,
    ) -> None:
        """Turn queries and keys in ``qkv`` by their positions, in place; store keys and values in their slots."""
        self._rotate_and_store(
            qkv.data_ptr(),
            positions.data_ptr(),
            slots.data_ptr(),
            angles[0].data_ptr(),
            angles[1].data_ptr(),
            cache[0].data_ptr(),
            cache[1].data_ptr(),
            len(qkv),
            *shape,
            torch.get_num_threads(),
        )

    def add_and_norm(
        self,
        hidden: torch.Tensor,
        delta: torch.Tensor | None,
        weight: torch.Tensor,
        normed: torch.Tensor,
        epsilon: float,
    ) -> None:
        """Add ``delta`` to ``hidden`` in place; ``normed`` becomes its RMS norm times ``weight``."""
        self._add_and_norm(
            hidden.data_ptr(),
            None if delta is None else delta.data_ptr(),
            weight.data_ptr(),
            normed.data_ptr(),
            *hidden.shape,
            epsilon,
            torch.get_num_threads(),
        )

    def norm_heads(self, qkv: torch.Tensor, weights: Pair, shape: tuple[int, int, int], epsilon: float) -> None:
        """Norm each query and key head of ``qkv`` in place; ``shape``: heads, kv_heads, head_dim."""
        self._norm_heads(
            qkv.data_ptr(),
            weights[0].data_ptr(),
            weights[1].data_ptr(),
            len(qkv),
            *shape,
            epsilon,
            torch.get_num_threads(),
        )

    def unpack(self, packed: torch.Tensor, scales: torch.Tensor, out: torch.Tensor, bits: int) -> None:
        """``out`` (rows, columns) becomes the weights that ``quantise`` packed; see ``quantisation.py``."""
        groups = scales.shape[1]
        self._unpack(
            packed.data_ptr(), scales.data_ptr(), out.data_ptr(), *out.shape, groups, bits, torch.get_num_threads()
        )

    def multiply(
        self,
        rows: torch.Tensor,
        packed: torch.Tensor,
        bias: torch.Tensor | None,
        out: torch.Tensor,
        *,
        gated: bool = False,
    ) -> None:
        """``out`` becomes ``rows`` times the weight that ``pack_panels`` or, ``gated``, ``pack_gated`` packed."""
        if self._multiply is None:
            raise KernelsUnavailable("this processor has no bfloat16 dot products")
        self._multiply(
            rows.data_ptr(),
            packed.data_ptr(),
            None if bias is None else bias.data_ptr(),
            out.data_ptr(),
            *out.shape,
            rows.shape[1],
            gated,
            torch.get_num_threads(),
        )

    def gate(self, gate_up: torch.Tensor, out: torch.Tensor) -> None:
        """``out`` becomes ``silu(gate) * up`` of rows that hold gate and up side by side."""
        self._gate(gate_up.data_ptr(), out.data_ptr(), *out.shape, torch.get_num_threads())

    def likeliest(self, logits: torch.Tensor) -> torch.Tensor:
        """The index (int64) of the first of the largest of each row."""
        out = torch.empty(len(logits), dtype=torch.int64)
        self._likeliest(logits.data_ptr(), out.data_ptr(), *logits.shape, torch.get_num_threads())
        return out


def pack_panels(weight: torch.Tensor) -> torch.Tensor:
    """A weight (columns, depth) in the order in which ``multiply`` reads it."""
    columns, depth = weight.shape
    return weight.view(columns // PANEL, PANEL, depth // 2, 2).transpose(1, 2).contiguous()


def pack_gated(weight: torch.Tensor) -> torch.Tensor:
    """A weight (gate's columns, then up's; depth) in the order in which a gated ``multiply`` reads it."""
    columns, depth = weight.shape
    return pack_panels(weight.view(2, columns // PANEL, LANES, depth).transpose(0, 1).reshape(columns, depth))


def load_kernels(dtype: torch.dtype, directory: Path | None = None, compilers: tuple[str, ...] = COMPILERS) -> Kernels:
    """The kernels for ``dtype``, built first where ``directory`` (None: the user's cache) doesn't hold them.

    Raises ``KernelsUnavailable``.
    """
    compiler = next((path for name in compilers if (path := shutil.which(name))), None)
    if compiler is None:
        raise KernelsUnavailable(f"no C++ compiler ({', '.join(compilers)}) on the path")
    try:
        library = _built(compiler, directory or cache_directory())
        return Kernels(ctypes.CDLL(str(library)), dtype)
    except (OSError, AttributeError) as error:
        raise KernelsUnavailable(f"the built library cannot be loaded: {error}") from error


def cache_directory() -> Path:
    """Where built libraries are kept: ``$XDG_CACHE_HOME/loadline``, else ``~/.cache/loadline``."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "loadline"


def _built(compiler: str, directory: Path) -> Path:
    library = directory / f"kernels-{_fingerprint(compiler)}.so"
    if library.is_file():
        return library
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        fresh = Path(scratch) / library.name
        try:
            subprocess.run(
                [compiler, *FLAGS, "-o", str(fresh), str(SOURCE)],
                check=True,
                capture_output=True,
                text=True,
                timeout=BUILD_LIMIT_S,
            )
        except subprocess.CalledProcessError as error:
            first = next(iter(error.stderr.splitlines()), f"exit code {error.returncode}")
            raise KernelsUnavailable(f"{compiler} cannot build {SOURCE.name}: {first}") from error
        except subprocess.TimeoutExpired as error:
            raise KernelsUnavailable(f"{compiler} took over {BUILD_LIMIT_S:.0f} s for {SOURCE.name}") from error
        fresh.replace(library)  # whole or not at all: another process may be building the same
    return library


def _fingerprint(compiler: str) -> str:
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    parts = (SOURCE.read_text(encoding="utf-8"), compiler, version, *FLAGS, platform.machine(), _processor())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """What ``-march=native`` depends on: the processor's flags, where the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
