"""From a trace to the GPUs to rent: size histogram, throughput per type, cheapest mix, checked in the simulation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from planner.catalog import Gpu, ModelSheet
from planner.errors import CapacityError
from planner.money.gpu_mix import GpuMix, GpuType, checked_mix
from planner.money.hardware import Fit, Layout, roofline, scheduler_of, smallest_tensor
from planner.room.capacity import at_rate
from planner.room.means import mean_figure
from planner.room.verdict import WARM_UP_RATIO, judge
from planner.sim import Twin, play
from planner.slo import Slo
from planner.traces.trace import Trace, from_lengths
from planner.traces.workload import stats

CUTS = 5
SAFETY = 0.7
LEAST_KV_TOKENS = 16_384
REQUESTS = 3000


@dataclass(frozen=True, slots=True)
class Offer:
    """A replica that can be rented: its GPUs, its step times from the sheets, its price."""

    fit: Fit
    twin: Twin
    usd_per_hour: float

    @property
    def name(self) -> str:
        """How many of which GPU."""
        return f"{self.fit.layout.gpus}x{self.fit.gpu}"


def offers(gpus: Sequence[Gpu], sheet: ModelSheet, layout: Layout) -> tuple[Offer, ...]:
    """One replica of each priced GPU on as few tensor ranks as hold the model. Raises CapacityError without any."""
    found = []
    for gpu in gpus:
        fit = smallest_tensor(gpu, sheet, layout, LEAST_KV_TOKENS)
        if fit is None or gpu.usd_per_hour is None:
            continue
        twin = Twin(scheduler_of(fit), roofline(gpu, sheet, fit.layout))
        found.append(Offer(fit, twin, gpu.usd_per_hour * fit.layout.gpus))
    if not found:
        raise CapacityError(f"{sheet.name}: no GPU with a price holds it, not even eight together")
    return tuple(found)


def slices_of(trace: Trace) -> npt.NDArray[np.int64]:
    """Slice of each request, (rows,): fifths of prompt lengths by fifths of output lengths."""
    cuts = np.linspace(0, 1, CUTS + 1)[1:-1]
    prompt = np.searchsorted(np.quantile(trace.input_tokens, cuts), trace.input_tokens, side="right")
    output = np.searchsorted(np.quantile(trace.output_tokens, cuts), trace.output_tokens, side="right")
    return np.asarray(prompt * CUTS + output, dtype=np.int64)


def rent(
    trace: Trace,
    found: Sequence[Offer],
    slo: Slo,
    requests_per_s: float,
    *,
    seed: int = 0,
    note: Callable[[str], None] | None = None,
) -> GpuMix:
    """The cheapest mix that keeps ``slo`` at ``requests_per_s`` of the trace's sizes, in simulation too."""
    slices = slices_of(trace)
    names = [offer.name for offer in found]
    types = [GpuType(name, offer.usd_per_hour) for name, offer in zip(names, found, strict=True)]
    rate = rates_of(slices, requests_per_s)
    able = np.array(
        [[_throughput(trace, slices == index, offer, slo) for offer in found] for index in range(len(rate))]
    )

    def broken(mix: GpuMix) -> list[str]:
        failed = [
            name
            for at, name in enumerate(names)
            if mix.counts[name]
            and not _kept(
                trace, slices, mix.shares[:, at], replace(found[at].twin, replicas=mix.counts[name]), slo, rate, seed
            )
        ]
        if note is not None:
            shown = ", ".join(f"{count} {name}" for name, count in mix.counts.items() if count)
            told = (
                f"{', '.join(failed)} break the promise in simulation"
                if failed
                else "the promise is kept in simulation"
            )
            note(f"{shown}: ${mix.usd_per_hour:.4g}/h, {told}")
        return failed

    return checked_mix(types, rate, able, broken)


def _throughput(trace: Trace, chosen: npt.NDArray[np.bool_], offer: Offer, slo: Slo) -> float:
    """Requests per second of a slice that one replica carries: a share of the figure on means, 0 if none."""
    if not chosen.any():
        return 0.0
    rows = np.nonzero(chosen)[0]
    part = from_lengths(np.arange(float(len(rows))), trace.input_tokens[rows], trace.output_tokens[rows])
    figure = mean_figure(part, offer.twin.model, offer.twin.scheduler, slo)
    return 0.0 if figure is None else SAFETY * figure.requests_per_s


def _kept(
    trace: Trace,
    slices: npt.NDArray[np.int64],
    share: npt.NDArray[np.float64],
    twin: Twin,
    slo: Slo,
    rate: npt.NDArray[np.float64],
    seed: int,
) -> bool:
    """Whether the replicas of one type keep the promise on their share of the load."""
    shaped = share_of(trace, slices, share, rate, seed)
    if shaped is None:
        return True
    return judge(play(shaped, twin, seed=seed, warm_up_ratio=WARM_UP_RATIO), shaped.output_tokens, slo).kept


def share_of(
    trace: Trace,
    slices: npt.NDArray[np.int64],
    share: npt.NDArray[np.float64],
    rate: npt.NDArray[np.float64],
    seed: int,
) -> Trace | None:
    """The requests that fall to one type, at the rate that does; None when none do.

    ``share`` is the type's part of each slice, ``rate`` the requests per second of each.
    """
    per_s = float((rate * share).sum())
    draw = np.random.default_rng([seed, 0x6B8])
    rows = np.nonzero(draw.random(len(trace)) < share[slices])[0]
    if per_s <= 0 or not len(rows):
        return None
    part = trace.take_rows(rows, name="share", seed=seed)
    return at_rate(part, per_s, REQUESTS, seed) if stats(part).mean_per_s > 0 else None


def rates_of(slices: npt.NDArray[np.int64], requests_per_s: float) -> npt.NDArray[np.float64]:
    """Requests per second of each slice."""
    return np.asarray(np.bincount(slices, minlength=CUTS * CUTS) / len(slices) * requests_per_s, dtype=np.float64)
