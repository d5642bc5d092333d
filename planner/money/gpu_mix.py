"""Which GPUs to rent for a mix of request sizes: a mixed-integer programme over a size histogram.

Each slice of the histogram (requests per second of one prompt and output size) is divided among GPU types as it pays;
only the counts of GPUs are whole. A type's throughput on a slice is what it sustains if it served nothing else, so the
loads of the slices add up (Mélange, arXiv 2404.14527, with fractional instead of binary assignment).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from planner.errors import CapacityError

FloatArray = npt.NDArray[np.float64]

GAP = 1e-3
TIME_LIMIT_S = 10.0
MOST_REPAIRS = 24
REPAIR = 1.1


@dataclass(frozen=True, slots=True)
class GpuType:
    """A replica's hardware: its name, its price, and how many can be had (None: any number)."""

    name: str
    usd_per_hour: float
    available: int | None = None


@dataclass(frozen=True, slots=True)
class GpuMix:
    """``counts`` of each type; ``shares`` (slices, types) of each slice's load; ``gap_ratio`` to the proven optimum.

    ``load_factor`` is by how much a type's load was raised at most so that the simulated fleet keeps the promise.
    """

    counts: Mapping[str, int]
    usd_per_hour: float
    shares: FloatArray
    gap_ratio: float
    load_factor: float = 1.0


def cheapest_mix(types: Sequence[GpuType], rate_per_s: FloatArray, throughput_per_s: FloatArray) -> GpuMix:
    """The cheapest counts that carry every slice.

    ``rate_per_s`` (slices,) is the load; ``throughput_per_s`` (slices, types) what one of a type sustains of a slice
    alone, 0 where it cannot keep the promise. Raises CapacityError when a slice fits nowhere.
    """
    rate = np.asarray(rate_per_s, dtype=np.float64)
    able = np.asarray(throughput_per_s, dtype=np.float64)
    if able.shape != (len(rate), len(types)):
        raise CapacityError(f"throughputs of shape {able.shape}: must be ({len(rate)}, {len(types)})")
    homeless = np.nonzero((rate > 0) & ~(able > 0).any(axis=1))[0]
    if len(homeless):
        raise CapacityError(f"slice {int(homeless[0])}: no GPU type keeps the promise for it")
    slices, kinds = np.nonzero((able > 0) & (rate > 0)[:, None])
    pairs, count = len(slices), len(types)
    columns = np.arange(pairs)
    served = np.nonzero(rate > 0)[0]
    place = np.zeros(len(rate), dtype=np.int64)
    place[served] = np.arange(len(served))
    # Variables are GPUs' worth of work, per slice and type, then the counts; HiGHS is quickest so, without presolve.
    whole = coo_array((able[slices, kinds], (place[slices], columns)), shape=(len(served), pairs + count))
    held = coo_array(
        (
            np.concatenate([np.ones(pairs), -np.ones(count)]),
            (np.concatenate([kinds, np.arange(count)]), np.concatenate([columns, pairs + np.arange(count)])),
        ),
        shape=(count, pairs + count),
    )
    price = np.array([kind.usd_per_hour for kind in types])
    most = np.array([np.inf if kind.available is None else float(kind.available) for kind in types])
    solved = milp(
        np.concatenate([np.zeros(pairs), price]),
        constraints=[
            LinearConstraint(whole.tocsc(), rate[served], rate[served]),
            LinearConstraint(held.tocsc(), -np.inf, 0),
        ],
        integrality=np.concatenate([np.zeros(pairs), np.ones(count)]),
        bounds=Bounds(np.zeros(pairs + count), np.concatenate([np.full(pairs, np.inf), most])),
        options={"mip_rel_gap": GAP, "time_limit": TIME_LIMIT_S, "presolve": False},
    )
    if solved.x is None:
        raise CapacityError(f"no mix of the available GPUs carries the load: {solved.message}")
    shares = np.zeros_like(able)
    shares[slices, kinds] = solved.x[:pairs] * able[slices, kinds] / rate[slices]
    counts = np.rint(solved.x[pairs:]).astype(int).tolist()
    return GpuMix(
        counts={kind.name: number for kind, number in zip(types, counts, strict=True)},
        usd_per_hour=float(price @ counts),
        shares=shares,
        gap_ratio=float(solved.mip_gap or 0.0),
    )


def checked_mix(
    types: Sequence[GpuType],
    rate_per_s: FloatArray,
    throughput_per_s: FloatArray,
    broken: Callable[[GpuMix], Collection[str]],
) -> GpuMix:
    """The cheapest mix of which no type is ``broken`` in simulation.

    A type that breaks the promise is taken to sustain a tenth less than before, and the mix is found anew: the load may
    move to other types. Raises CapacityError when that does not come to an end.
    """
    factors = np.ones(len(types))
    for _ in range(MOST_REPAIRS + 1):
        found = cheapest_mix(types, rate_per_s, np.asarray(throughput_per_s) / factors)
        mix = replace(found, load_factor=float(factors.max()))
        names = broken(mix)
        if not names:
            return mix
        factors *= [REPAIR if kind.name in names else 1.0 for kind in types]
    raise CapacityError(
        f"no mix keeps the promise in simulation, not even one for {factors.max():.2g} times the load on a type"
    )
