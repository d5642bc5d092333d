"""Fit step-time models to what an engine was seen to do: non-negative least squares on relative errors.

Rows may be single steps or sums over intervals: the linear form is linear in its costs, so sums fit as well as steps.
Hinges bend, so they need single steps. Several forms are fitted; the one that does best on steps busier than those it
was fitted on is taken, the simplest of those that do about as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isqrt

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from planner.errors import ModelError
from planner.result import Observation
from planner.steps.latency import COSTS, Error, Factors, Hinge, Overhead, StepModel, factor_at
from planner.steps.resample import refits

FloatArray = npt.NDArray[np.float64]

MIN_OBSERVATIONS = 8
HELD_OUT_RATIO = 0.25
FORWARD_RATIO = 0.3
QUANTILES = 101
FORMS = ("linear", "hinge", "bend")
SIMPLER = 1.05  # a form with more bends has to be better by this factor,
SAME = 1e-3  # and by as much
STRETCH = 128
STRETCHES = 32
MIN_OF_SIZE = 20
_ROUNDS = 4
_CLIP = 1.345  # Huber's: 95% as efficient as least squares on clean noise, and stalls hardly pull
_MARGIN = 1.05


@dataclass(frozen=True, slots=True)
class Design:
    """Observations as arrays: ``amounts`` (rows, 5) in the order of ``COSTS``, ``wall_s`` (rows,)."""

    amounts: FloatArray
    wall_s: FloatArray

    @property
    def steps(self) -> FloatArray:
        """Steps in each row."""
        return self.amounts[:, 0]

    @property
    def single(self) -> bool:
        """Whether every row is one step."""
        return bool(np.all(self.steps == 1))

    def rows(self, chosen: npt.NDArray[np.bool_] | slice) -> "Design":
        """Some of the rows."""
        return Design(self.amounts[chosen], self.wall_s[chosen])


Knot = tuple[str, float, str]
"""Variable, where it bends, and the side on which it costs."""


@dataclass(frozen=True, slots=True)
class _Fitted:
    costs: FloatArray
    hinges: tuple[Knot, ...]
    decode: Factors = ()
    prefill: Factors = ()

    def predict(self, design: Design) -> FloatArray:
        seconds = _matrix(design, self.hinges) @ self.costs
        if self.decode or self.prefill:
            sizes = zip(design.amounts[:, 1].tolist(), design.amounts[:, 3].tolist(), strict=True)
            seconds = seconds * [
                factor_at(self.prefill, prefill + decode) if prefill else factor_at(self.decode, decode)
                for prefill, decode in sizes
            ]
        return np.asarray(seconds, dtype=np.float64)


def design_of(observations: Sequence[Observation]) -> Design:
    """Rows that can be fitted: those with steps and a positive, finite wall time, in their order."""
    rows = np.array(
        [
            (o.wall_s, o.steps, o.prefill_tokens, o.prefill_attention, o.decode_seqs, o.decode_kv_tokens)
            for o in observations
        ],
        dtype=np.float64,
    ).reshape(-1, 6)
    usable = np.isfinite(rows).all(axis=1) & (rows[:, 0] > 0) & (rows[:, 1] > 0) & (rows[:, 2:] >= 0).all(axis=1)
    kept = rows[usable]
    return Design(kept[:, 1:], kept[:, 0])


def fit(
    observations: Sequence[Observation],
    *,
    source: str,
    form: str = "auto",
    overhead: Overhead | None = None,
    scheduler: dict[str, object] | None = None,
    engine: dict[str, str] | None = None,
) -> StepModel:
    """Fit a model: on the first 75% of the observations, its error told on the last 25%, then on all of them.

    ``form``: one of ``FORMS``, or ``auto`` for the one that does best on the busiest steps when fitted without them.
    Raises ModelError when there is too little to fit.
    """
    design = design_of(observations)
    count = len(design.wall_s)
    if count < MIN_OBSERVATIONS:
        raise ModelError(f"{source}: {count} usable observations; at least {MIN_OBSERVATIONS} are needed")
    notes = []
    if dropped := len(observations) - count:
        notes.append(f"{dropped} of {len(observations)} observations left out: no steps, or no finite positive time")
    train = design.rows(slice(0, count - int(count * HELD_OUT_RATIO)))
    forward = _forward_errors(train, hinges=design.single) if form == "auto" else {}
    chosen = form if form != "auto" else _best(forward)
    if chosen != "linear" and not design.single:
        raise ModelError(f"{source}: the {chosen} form needs single steps; these are sums over intervals")
    later = design.rows(slice(len(train.wall_s), None))
    plain, corrected = _solve(train, chosen), None
    if design.single:
        corrected = _correct(plain, train)
    held_out = _error(plain, later)
    fitted = _solve(design, chosen)
    if corrected is not None and (error := _error(corrected, later)).mean * SIMPLER < held_out.mean:
        held_out, fitted = error, _correct(fitted, design)
    fitted = _without_idle(fitted)
    residuals = design.wall_s / np.maximum(fitted.predict(design), 1e-12) - 1
    kept = _stretches(count) if design.single else np.zeros(0, dtype=np.int64)
    if not design.single:
        notes.append("fitted on sums over intervals: the noise of single steps is not seen")
    return StepModel(
        source=source,
        engine=engine or {},
        form=chosen,  # type: ignore[arg-type]  # one of FORMS
        costs_s={name: float(cost) for name, cost in zip(COSTS, fitted.costs, strict=False)},
        hinges=tuple(
            Hinge.model_validate({"variable": variable, "knot": knot, "seconds": float(cost), "side": side})
            for (variable, knot, side), cost in zip(fitted.hinges, fitted.costs[len(COSTS) :], strict=True)
        ),
        costs_drawn=tuple(tuple(one) for one in _drawn(fitted, design).tolist()),
        decode_factors=fitted.decode,
        prefill_factors=fitted.prefill,
        step_gap_s=step_gap_s(observations),
        overhead=overhead or Overhead(),
        scheduler=scheduler or None,
        basis="step" if design.single else "interval",
        residual_quantiles=_bin_means(residuals),
        residuals=tuple(round(float(residual), 5) for residual in residuals[kept]),
        residual_prompts=tuple(int(at) for at in np.nonzero(design.amounts[kept, 1])[0]),
        residual_stretch=STRETCH if design.single and len(residuals) >= 2 * STRETCH else 1,
        hull=_hull(design),
        fit=_error(fitted, design),
        held_out=held_out,
        forward=forward,
        notes=tuple(notes),
    )


def step_gap_s(observations: Sequence[Observation]) -> float:
    """Mean time between the end of one step and the start of the next of a busy engine, seconds.

    Known from single steps with start and end; a step that decodes had work waiting, so the gap before it is the
    engine's own. Gaps longer than ten times the median are pauses of something else and count as the median's tenfold.
    0 when unknown.
    """
    steps = [o for o in observations if o.steps == 1 and o.start_s is not None and o.end_s is not None]
    gaps = [
        float(after.start_s or 0) - float(before.end_s or 0)
        for before, after in pairwise(steps)
        if after.decode_seqs > 0
    ]
    known = np.array([gap for gap in gaps if gap >= 0])
    if len(known) < MIN_OBSERVATIONS:
        return 0.0
    return float(np.minimum(known, 10 * np.median(known)).mean())


def _matrix(design: Design, hinges: Sequence[Knot]) -> FloatArray:
    amounts = design.amounts
    size = {"tokens": amounts[:, 1] + amounts[:, 3], "prefill_tokens": amounts[:, 1], "decode_seqs": amounts[:, 3]}
    bends = [
        np.minimum(size[variable], knot) if side == "upto" else np.maximum(size[variable] - knot, 0.0)
        for variable, knot, side in hinges
    ]
    return np.column_stack([amounts, *bends]) if bends else amounts


def _solve(design: Design, form: str) -> _Fitted:
    """Costs of a form, bends wherever the rows let it bend."""
    hinges = () if form == "linear" else _knots(design, ("upto",) if form == "hinge" else ("upto", "beyond"))
    return _Fitted(_costs(design, hinges), hinges)


def _costs(design: Design, hinges: Sequence[Knot]) -> FloatArray:
    """Costs that minimise the relative error, outliers clipped: reweighted by what was predicted, not what was seen.

    Weighting by the seen time would pull the fit below the mean by the variance of the noise. At the end the costs are
    scaled so that the summed time is the observed one: clipped stalls are rare, but a server does lose that time.
    """
    matrix = _matrix(design, hinges)
    scale = np.maximum(matrix.max(axis=0), 1e-30)
    expected = design.wall_s
    target = design.wall_s
    costs = np.zeros(matrix.shape[1])
    for _ in range(_ROUNDS):
        weights = 1.0 / np.maximum(expected, 1e-12)
        solution = _nnls(matrix / scale * weights[:, None], target * weights)
        costs = solution / scale
        expected = np.maximum(matrix @ costs, 1e-9)
        ratio = design.wall_s / expected
        middle = float(np.median(ratio))
        target = expected * np.clip(ratio, *_around(ratio, middle))
    return np.asarray(costs * (design.wall_s.sum() / expected.sum()), dtype=np.float64)


def _without_idle(fitted: _Fitted) -> _Fitted:
    """The same without bends that cost nothing."""
    used = [True] * len(COSTS) + [bool(cost > 0) for cost in fitted.costs[len(COSTS) :]]
    hinges = tuple(hinge for hinge, kept in zip(fitted.hinges, used[len(COSTS) :], strict=True) if kept)
    return replace(fitted, costs=fitted.costs[used], hinges=hinges)


def _drawn(fitted: _Fitted, design: Design) -> FloatArray:
    """The fit's costs as other stretches of such rows would have given them, (draws, costs).

    With the weights and bounds of the fit itself; each stretch enters as its triangular factor and its sums.
    """
    stretch = STRETCH if design.single and len(design.wall_s) >= 2 * STRETCH else isqrt(len(design.wall_s))
    count = len(design.wall_s) // stretch
    kept = design.rows(slice(0, count * stretch))
    expected = np.maximum(fitted.predict(kept), 1e-12)
    matrix = _matrix(kept, fitted.hinges)
    by_size = expected / np.maximum(matrix @ fitted.costs, 1e-12)  # the factors by size stay as they are
    matrix = matrix * by_size[:, None]
    scale = np.maximum(matrix.max(axis=0), 1e-30)
    ratio = kept.wall_s / expected
    target = np.clip(ratio, *_around(ratio, float(np.median(ratio))))
    rows = np.column_stack([matrix / scale / expected[:, None], target])
    factors = np.linalg.qr(rows.reshape(count, stretch, -1), mode="r")
    sums, walls = matrix.reshape(count, stretch, -1).sum(axis=1), kept.wall_s.reshape(count, stretch).sum(axis=1)

    def refit(chosen: npt.NDArray[np.int64]) -> FloatArray:
        stacked = factors[chosen].reshape(-1, rows.shape[1])
        costs = _nnls(stacked[:, :-1], stacked[:, -1]) / scale
        return np.asarray(costs * (walls[chosen].sum() / (sums[chosen].sum(axis=0) @ costs)))

    return refits(fitted.costs, count, refit)


def _nnls(matrix: FloatArray, target: FloatArray) -> FloatArray:
    """Non-negative least squares, of tall matrices by way of their triangular factor: the same answer, sooner."""
    if len(matrix) > 2 * matrix.shape[1]:
        triangle: FloatArray = np.asarray(np.linalg.qr(np.column_stack([matrix, target]), mode="r"))
        matrix, target = triangle[:, :-1], triangle[:, -1]
    return np.asarray(nnls(matrix, target, maxiter=30 * matrix.shape[1])[0], dtype=np.float64)


def _around(ratio: FloatArray, middle: float) -> tuple[float, float]:
    """Bounds beyond which a ratio is an outlier."""
    spread = max(1.4826 * float(np.median(np.abs(ratio - middle))), 0.005)
    return middle - _CLIP * spread, middle + _CLIP * spread


def _knots(design: Design, sides: Sequence[str]) -> tuple[Knot, ...]:
    """Where cost may bend: powers of two inside what was observed, and at one prefill token (a step with any)."""
    prefill, decode = design.amounts[:, 1], design.amounts[:, 3]
    hinges: list[Knot] = [("prefill_tokens", 1.0, "upto")]
    for variable, values in (("tokens", prefill + decode), ("decode_seqs", decode)):
        positive = values[values > 0]
        if not len(positive):
            continue
        low, high = np.percentile(positive, [2, 98])
        knots = [2.0**power for power in range(16) if low < 2.0**power < high]
        hinges.extend((variable, knot, side) for knot in knots for side in sides)
    return tuple(hinges)


def _forward_errors(train: Design, *, hinges: bool) -> dict[str, float]:
    """Mean error of each form on the busiest rows after a fit on the others: how it does beyond what it saw."""
    if len(train.wall_s) < 40:
        return {}
    busy = _busiest(train)
    forms = FORMS if hinges else FORMS[:1]
    return {form: _error(_solve(train.rows(~busy), form), train.rows(busy)).mean for form in forms}


def _busiest(train: Design) -> npt.NDArray[np.bool_]:
    """The busiest rows of either kind, with prompts and without: one kind says little of the other's costs."""
    load = (train.amounts[:, 1] + train.amounts[:, 3] + train.amounts[:, 4] / 64) / train.steps
    busy = np.zeros(len(load), dtype=np.bool_)
    prompts = train.amounts[:, 1] > 0
    for kind in (prompts, ~prompts):
        if kind.sum() >= MIN_OBSERVATIONS:
            busy |= kind & (load > np.quantile(load[kind], 1 - FORWARD_RATIO))
    return busy


def _best(forward: dict[str, float]) -> str:
    """The first form that none with more bends beats by much."""
    best = FORMS[0]
    for form in FORMS[1:]:
        if form in forward and forward[form] * SIMPLER + SAME < forward[best]:
            best = form
    return best


def _correct(fitted: _Fitted, design: Design) -> _Fitted:
    """The same costs with factors by size: seen over predicted, drawn towards 1 where little was seen.

    As with the costs, outliers are clipped and the summed time is kept.
    """
    ratio = design.wall_s / np.maximum(fitted.predict(design), 1e-12)
    middle = float(np.median(ratio))
    ratio = np.clip(ratio, *_around(ratio, middle)) / middle
    prefill, decode = design.amounts[:, 1], design.amounts[:, 3]
    only = prefill == 0
    corrected = replace(
        fitted,
        decode=_factors(decode[only], ratio[only], exact=16),
        prefill=_factors((prefill + decode)[~only], ratio[~only], exact=1),
    )
    return replace(corrected, costs=fitted.costs * (design.wall_s.sum() / corrected.predict(design).sum()))


def _factors(sizes: FloatArray, ratio: FloatArray, *, exact: int) -> Factors:
    """Mean ratios by size: of each size up to ``exact``, then by half octaves; those with too few rows are left out."""
    found = []
    edges = [*range(1, exact + 1), *(exact * 2 ** (power / 2) for power in range(1, 40))]
    for low, high in pairwise(edges):
        inside = ratio[(sizes >= low) & (sizes < high)]
        if len(inside) >= MIN_OF_SIZE:
            found.append((float(low), float((inside.sum() + MIN_OF_SIZE) / (len(inside) + MIN_OF_SIZE))))
    return tuple(found)


def _error(fitted: _Fitted, design: Design) -> Error:
    expected = fitted.predict(design)
    relative = np.abs(expected - design.wall_s) / design.wall_s
    return Error(
        observations=len(relative),
        median=float(np.median(relative)),
        mean=float(relative.mean()),
        p90=float(np.percentile(relative, 90)),
        bias=float(expected.sum() / design.wall_s.sum() - 1),
    )


def _bin_means(residuals: FloatArray) -> tuple[float, ...]:
    """Means of equal shares of the sorted residuals: quantiles that keep the mean, its tail included."""
    ordered = np.sort(residuals)
    shares = min(QUANTILES, len(ordered))
    return tuple(float(part.mean()) for part in np.array_split(ordered, shares))


def _stretches(rows: int) -> npt.NDArray[np.int64]:
    """Rows whose residuals are kept, in the order of time: all, or evenly spread stretches of ``STRETCH``."""
    if rows <= STRETCH * STRETCHES:
        return np.arange(rows)
    starts = np.linspace(0, rows - STRETCH, STRETCHES).astype(np.int64)
    return np.asarray((starts[:, None] + np.arange(STRETCH)).ravel(), dtype=np.int64)


def _hull(design: Design) -> dict[str, float]:
    """Largest observed amounts per step, with a margin of 5%; for sums, of the means per step and decodes only.

    A prefill chunk inside an interval may be many times its mean, so sums say nothing of its bound.
    """
    per_step = design.amounts / design.steps[:, None]
    names = COSTS[1:] if design.single else COSTS[3:]
    return {name: float(per_step[:, COSTS.index(name)].max()) * _MARGIN for name in names}
