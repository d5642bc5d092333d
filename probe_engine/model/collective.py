"""What the ranks of one model do together: sum what each computed, and gather the vocabulary's parts on rank 0."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol

import torch
from torch import distributed

from probe_engine.errors import ModelError
from probe_engine.model.linear import Linear, Prepare

LOOPBACK = "127.0.0.1"
BACKENDS = {"cpu": "gloo", "cuda": "nccl"}  # by type of device
TIMEOUT = timedelta(minutes=10)  # of one operation; a rank that dies is seen at once, by its closed connection


class Collective(Protocol):
    """Operations that every rank calls in the same order."""

    def sum(self, part: torch.Tensor) -> torch.Tensor:
        """The sum of all ranks' ``part``, in place."""

    def gather(self, part: torch.Tensor) -> list[torch.Tensor] | None:
        """All ranks' ``part`` in order on rank 0; None elsewhere."""


class ProcessCollective:
    """Over a process group of ``device``'s backend, met through ``store`` (torch.distributed's).

    Several may live in one process. Raises ``ModelError`` for a device that has none, and RuntimeError from its
    operations when another rank has gone.
    """

    def __init__(self, store: Any, rank: int, ranks: int, device: torch.device) -> None:
        self._rank, self._ranks = rank, ranks
        self.backend = backend_of(device)
        self._group: Any = GROUPS[self.backend](store, rank, ranks)

    def sum(self, part: torch.Tensor) -> torch.Tensor:
        """The sum of all ranks' ``part``, in place."""
        self._group.allreduce([part]).wait()
        return part

    def gather(self, part: torch.Tensor) -> list[torch.Tensor] | None:
        """All ranks' ``part`` in order on rank 0; None elsewhere."""
        options = distributed.GatherOptions()
        options.rootRank = 0
        parts = [torch.empty_like(part) for _ in range(self._ranks)] if self._rank == 0 else None
        self._group.gather([] if parts is None else [parts], [part], options).wait()
        return parts


class _SummedLinear:
    """One rank's part of a product that is cut by columns."""

    def __init__(self, inner: Linear, collective: Collective) -> None:
        self._inner, self._collective = inner, collective

    @property
    def weight_bytes(self) -> int:
        return self._inner.weight_bytes

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        return self._collective.sum(self._inner(rows))


class _GatheredHead:
    """One rank's part of the vocabulary; rank 0 answers with all of it, the others with their part."""

    def __init__(self, inner: Linear, collective: Collective, vocab_size: int) -> None:
        self._inner, self._collective, self._vocab_size = inner, collective, vocab_size

    @property
    def weight_bytes(self) -> int:
        return self._inner.weight_bytes

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        part = self._inner(rows)
        parts = self._collective.gather(part)
        return part if parts is None else torch.cat(parts, dim=-1)[:, : self._vocab_size]


def backend_of(device: torch.device) -> str:
    """What carries the ranks' messages: ``gloo`` on the CPU, ``nccl`` on CUDA; raises ``ModelError`` elsewhere."""
    backend = BACKENDS.get(device.type)
    if backend is None:
        raise ModelError(f"tensor parallel on {device.type!r}; allowed: {', '.join(BACKENDS)}")
    return backend


def summed(prepare: Prepare, collective: Collective) -> Prepare:
    """Linears whose products are summed over the ranks; they have no bias, which would be added by each rank."""

    def prepare_part(weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
        return _SummedLinear(prepare(weight, bias), collective)

    return prepare_part


def gathered(prepare: Prepare, collective: Collective, vocab_size: int) -> Prepare:
    """Heads whose logits are put together on rank 0."""

    def prepare_part(weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
        return _GatheredHead(prepare(weight, bias), collective, vocab_size)

    return prepare_part


def _gloo(store: Any, rank: int, ranks: int) -> Any:
    gloo: Any = distributed.ProcessGroupGloo
    options = gloo._Options()
    options._devices = [gloo.create_device(hostname=LOOPBACK)]
    options._timeout = TIMEOUT
    return gloo(store, rank, ranks, options)


def _nccl(store: Any, rank: int, ranks: int) -> Any:
    nccl: Any = distributed.ProcessGroupNCCL
    return nccl(store, rank, ranks, nccl.Options())


GROUPS: Mapping[str, Callable[[Any, int, int], Any]] = {"gloo": _gloo, "nccl": _nccl}
