"""Shape a trace piece by piece, where every step looks at one request only, so that a large file need not be held."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from planner.errors import WorkloadError
from planner.shaping.cut import named
from planner.traces.trace import Trace, concatenate
from planner.traces.workload import Shaping

_NS = 1_000_000_000


def shaped(pieces: Iterable[Trace], shaping: Shaping) -> Iterator[Trace]:
    """The requests of ``shaping.apply``, in pieces; held as a whole only where a step needs them all.

    The header of the last piece has the transforms of all. Raises WorkloadError.
    """
    if _row_local(shaping):
        yield from _row_by_row(pieces, shaping)
        return
    held = list(pieces)
    whole = concatenate(held, held[0].header)
    held.clear()
    yield shaping.apply(whole, playable=False)


def _row_local(shaping: Shaping) -> bool:
    plain = Shaping()
    return all(
        getattr(shaping, name) == getattr(plain, name)
        for name in ("share", "dequantise", "rate", "arrivals", "requests")
    )


def _row_by_row(pieces: Iterable[Trace], shaping: Shaping) -> Iterator[Trace]:
    left, given, seen = shaping.max_requests, 0, None
    rest = shaping.model_copy(
        update={"window_start_s": None, "window_end_s": None, "models": (), "tenants": (), "max_requests": None}
    )
    for found in pieces:
        piece = seen = found
        if shaping.window_start_s is not None:
            piece = _clipped(piece, shaping.window_start_s, shaping.window_end_s)
        for column, wanted in (("model", shaping.models), ("tenant", shaping.tenants)):
            if wanted:
                kept = np.flatnonzero(named(piece, column, wanted))
                piece = piece.take_rows(kept, name="only", column=column, wanted=sorted(wanted))
        if left is not None:
            piece = piece.take_rows(np.arange(min(left, len(piece))), name="take", count=shaping.max_requests)
            left -= len(piece)
        if len(piece):
            given += len(piece)
            yield rest.apply(piece, playable=False)
    if not given and seen is not None:
        asked = ", ".join(f"{k} {v}" for k, v in shaping.model_dump(exclude_defaults=True).items())
        raise WorkloadError(f"{seen.header.source}: no request is left of {asked}")


def _clipped(piece: Trace, start_s: float, end_s: float | None) -> Trace:
    if "arrival times" in piece.absent:
        raise WorkloadError(f"window: {piece.header.source} has no arrival times")
    start_ns = round(start_s * _NS)
    first = int(np.searchsorted(piece.arrival_ns, start_ns, side="left"))
    last = len(piece) if end_s is None else int(np.searchsorted(piece.arrival_ns, round(end_s * _NS), side="left"))
    cut = piece.take_rows(np.arange(first, last), name="window", start_s=start_s, end_s=end_s)
    return replace(cut, arrival_ns=cut.arrival_ns - start_ns)
