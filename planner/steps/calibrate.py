"""Where a step-time model's evidence comes from: a run, an engine's recent steps, a profile, or production history.

Reading is apart from fitting: every function gives ``Evidence``, and ``Evidence.fit`` makes the model.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
from pydantic import ValidationError

from collector.client import Client
from collector.model.labels import get
from collector.signals import Present, SignalAbsent, Vocabulary
from planner.errors import ModelError
from planner.result import STEP_SIGNALS, FloatArray, IntArray, Observation, Run
from planner.slo import first_fault
from planner.steps.fit import fit
from planner.steps.latency import COSTS, Overhead, StepModel, scheduler_limits
from probe_engine.sched import StepStats

MIN_OVERHEAD_REQUESTS = 20


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen of an engine: observations in the order of time, its scheduler's limits, its overhead."""

    source: str
    observations: tuple[Observation, ...]
    scheduler: dict[str, Any] = field(default_factory=dict)
    overhead: Overhead = Overhead()
    engine: dict[str, str] = field(default_factory=dict)

    def fit(self, form: str = "auto") -> StepModel:
        """Fit a step-time model. Raises ModelError when there is too little to fit."""
        return fit(
            self.observations,
            source=self.source,
            form=form,
            overhead=self.overhead,
            scheduler=self.scheduler,
            engine=self.engine,
        )


def from_run(run: Run, source: str) -> Evidence:
    """What a run recorded of its server: counter growth per interval or steps, and the overhead of its requests.

    Scheduler limits are taken from ``details.scheduler`` of the header, where the replay noted them.
    """
    noted = run.header.details.get("scheduler")
    return Evidence(
        source=source,
        observations=run.observations,
        scheduler=scheduler_limits(noted) if isinstance(noted, Mapping) else {},
        overhead=overhead_of(run),
        engine={"model": run.header.model, "target": run.header.target},
    )


def from_document(document: Mapping[str, Any], source: str) -> Evidence:
    """An engine's ``/steps`` answer (``{"steps": [...]}``) or a profile (``{"observations": [...]}``).

    Raises ModelError with the first entry that is no observation.
    """
    entries = document.get("steps", document.get("observations"))
    if not isinstance(entries, list):
        raise ModelError(f'{source}: holds neither "steps" nor "observations"')
    found = []
    for index, entry in enumerate(entries):
        try:
            seen = Observation.model_validate({key: value for key, value in entry.items() if key != "steps"})
        except (ValidationError, AttributeError) as error:
            what = first_fault(error) if isinstance(error, ValidationError) else "is not an object"
            raise ModelError(f"{source}: entry {index}: {what}") from error
        if seen.start_s is not None and seen.end_s is None:
            seen = seen.model_copy(update={"end_s": seen.start_s + seen.wall_s})
        found.append(seen)
    noted = document.get("scheduler", document)
    engine = {key: str(document[key]) for key in ("model", "dtype", "device", "threads") if key in document}
    return Evidence(source, tuple(found), scheduler_limits(noted if isinstance(noted, Mapping) else {}), engine=engine)


def from_file(path: Path) -> Evidence:
    """A profile or a saved ``/steps`` answer. Raises ModelError."""
    try:
        document = orjson.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise ModelError(f"{path}: is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ModelError(f"{path}: is not an object")
    return from_document(document, str(path))


def from_engine(base_url: str, *, transport: httpx.BaseTransport | None = None) -> Evidence:
    """Recent steps of a running engine: ``BASE/steps``, and its limits from ``BASE/metadata``.

    A URL that itself ends in ``/steps`` is taken too. Raises ModelError.
    """
    base = base_url.rstrip("/").removesuffix("/steps")
    with httpx.Client(transport=transport, timeout=10.0, trust_env=False) as http:
        steps = _get(http, f"{base}/steps")
        evidence = from_document(steps, f"{base}/steps")
        metadata = _get(http, f"{base}/metadata")
    return Evidence(
        source=evidence.source,
        observations=evidence.observations,
        scheduler={**evidence.scheduler, **find_limits(metadata)},
        engine={**evidence.engine, **_identity(metadata)},
    )


def from_history(
    client: Client, vocabulary: Vocabulary, start_s: float, end_s: float, step_s: float, pool: str | None = None
) -> Evidence:
    """Growth of the step counters per ``step_s`` over a stretch of a source's history, per server.

    Raises ModelError when the engines there do not expose their steps, SourceError when the source cannot answer.
    """
    for signal in ("step_time", *STEP_SIGNALS.values()):
        status = vocabulary.status(signal)
        if not isinstance(status, Present):
            raise ModelError(f"{client.base_url}: {signal} is {status}")
    where = f'pool="{pool}"' if pool else ""
    by = ("pool", "instance")
    window = f"{step_s:g}s"
    asked = {
        "steps": vocabulary.increase("step_time", window, by, where, part="count"),
        "wall_s": vocabulary.increase("step_time", window, by, where, part="sum"),
        **{name: vocabulary.increase(signal, window, by, where) for name, signal in STEP_SIGNALS.items()},
    }
    columns: dict[tuple[tuple[str, str], ...], dict[str, dict[int, float]]] = {}
    for name, expression in asked.items():
        for series in client.query_range(expression, start_s + step_s, end_s, step_s):
            points = dict(zip(series.timestamps_ms.tolist(), series.values.tolist(), strict=True))
            columns.setdefault(series.labels, {})[name] = points
    found: list[tuple[int, Observation]] = []
    for by_name in columns.values():
        moments = set.intersection(*(set(by_name.get(name, {})) for name in asked))
        for at_ms in sorted(moments):
            values = {name: by_name[name][at_ms] for name in asked}
            if values["steps"] > 0 and all(np.isfinite(value) and value >= 0 for value in values.values()):
                moment = {"start_s": at_ms / 1000 - step_s, "end_s": at_ms / 1000}
                found.append((at_ms, Observation.model_validate({**values, **moment})))
    found.sort(key=lambda pair: pair[0])
    return Evidence(
        source=f"{client.base_url} {start_s:.0f}..{end_s:.0f} every {window}",
        observations=tuple(observation for _, observation in found),
        scheduler=limits_from_source(client, vocabulary, end_s, pool),
        engine={"pool": pool} if pool else {},
    )


def limits_from_source(
    client: Client, vocabulary: Vocabulary, time_s: float, pool: str | None = None
) -> dict[str, Any]:
    """Scheduler limits that a source's engines expose: info labels and the size of the KV cache."""
    where = f'pool="{pool}"' if pool else ""
    limits: dict[str, Any] = {}
    try:
        for sample in client.query(vocabulary.info("engine_info", where), time_s) or client.query(
            vocabulary.info("engine_info"), time_s
        ):
            limits |= scheduler_limits(_canonical(dict(sample.labels), vocabulary))
    except SignalAbsent:
        pass  # the engine does not tell its limits; defaults stand and the model file says so
    try:
        tokens = client.query(vocabulary.gauge("kv_capacity", "max", ("pool",), where), time_s)
    except SignalAbsent:
        return limits
    sizes = [sample.value for sample in tokens if pool is None or get(sample.labels, "pool") == pool]
    if sizes:
        limits.setdefault("block_size", 16)
        limits["num_blocks"] = int(max(sizes) // limits["block_size"])
    return limits


def _canonical(labels: dict[str, str], vocabulary: Vocabulary) -> dict[str, str]:
    """Labels of an engine's info metric under the scheduler's names for its limits."""
    renamed = {"kv_blocks": "num_blocks", "kv_block_size_tokens": "block_size"}
    found = dict(labels)
    for dialect in vocabulary.dialects:
        for candidate in dialect.signals.get("engine_info", ()):
            for canonical, own in candidate.carries:
                if own in labels:
                    found[renamed.get(canonical, canonical)] = labels[own]
    return found


def predicted_s(model: StepModel, seen: Observation) -> float:
    """What a linear model says that the steps of an observation take, seconds."""
    amounts = (seen.steps, seen.prefill_tokens, seen.prefill_attention, seen.decode_seqs, seen.decode_kv_tokens)
    return sum(model.costs_s.get(name, 0.0) * amount for name, amount in zip(COSTS, amounts, strict=True))


def slowness(model: StepModel, seen: Iterable[Observation]) -> float:
    """Time that steps took over what the model gives them: above 1 the machine is slower than it was calibrated.

    1 where nothing was seen.
    """
    took = told = 0.0
    steps = model.model_copy(update={"step_gap_s": 0.0}).latency_model()
    for one in seen:
        took += one.wall_s
        if one.steps == 1:
            told += steps.step_seconds(_size(one))
        else:
            told += predicted_s(model, one)
    return took / told if told else 1.0


def _size(step: Observation) -> StepStats:
    """What a single step computed."""
    amounts = (step.prefill_tokens, step.prefill_attention, step.decode_seqs, step.decode_kv_tokens)
    return StepStats(*(round(amount) for amount in amounts))


def overhead_of(run: Run) -> Overhead:
    """What clients waited beyond the engine's own TTFT: a fixed part and one per prompt token.

    From the server's own time of each request where the run has it (medians, at least 20 requests); else from the
    means of client and engine over the same requests, as a fixed part only; else unknown, told by ``requests`` 0.
    """
    ttft = run.latencies()["ttft_sent_s"]
    served = run.requests.server_ttft_s
    if served is not None:
        found = overhead_between(ttft, served, run.requests.input_tokens)
        if found.requests:
            return found
    sums = [(o.ttft_sum_s, o.ttft_count) for o in run.observations if o.ttft_sum_s is not None and o.ttft_count]
    count = sum(float(n or 0) for _, n in sums)
    known = int((~np.isnan(ttft)).sum())
    if known >= MIN_OVERHEAD_REQUESTS and abs(count - known) <= 0.02 * known:
        engine = sum(float(total or 0) for total, _ in sums) / count
        extra_mean = float(np.nanmean(ttft)) - engine
        return Overhead(fixed_s=max(extra_mean, 0.0), per_prompt_token_s=0.0, requests=known)
    return Overhead()


def overhead_between(ttft_s: FloatArray, served_s: FloatArray, tokens: IntArray) -> Overhead:
    """What clients waited beyond the times that a server had, (requests,) each: a fixed part and one per prompt token.

    Medians, of at least 20 requests that have both; else unknown.
    """
    usable = ~np.isnan(ttft_s) & ~np.isnan(served_s)
    if usable.sum() < MIN_OVERHEAD_REQUESTS:
        return Overhead()
    extra, prompt = (ttft_s - served_s)[usable], tokens[usable].astype(np.float64)
    per_token = _slope(prompt, extra)
    fixed = float(np.median(extra - per_token * prompt))
    return Overhead(fixed_s=max(fixed, 0.0), per_prompt_token_s=per_token, requests=int(usable.sum()))


def find_limits(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Scheduler limits anywhere in an engine's metadata: at its top or one level below."""
    limits = scheduler_limits(metadata)
    for value in metadata.values():
        if isinstance(value, Mapping):
            limits |= scheduler_limits(value)
    return limits


def _identity(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Model, numbers, device and version out of an engine's metadata, where it tells them."""
    told = {key: metadata[key] for key in ("model", "dtype", "device", "version") if key in metadata}
    model = told.get("model")
    if isinstance(model, Mapping):
        told["model"] = model.get("name", "")
    return {key: str(value) for key, value in told.items() if value}


def _slope(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    """Robust rise of ``y`` with ``x``, at least 0: the difference of the medians of the upper and lower half."""
    middle = np.median(x)
    low, high = x <= middle, x > middle
    if not high.any():
        return 0.0
    run_ = float(np.median(x[high]) - np.median(x[low]))
    rise = float(np.median(y[high]) - np.median(y[low]))
    return max(rise / run_, 0.0) if run_ > 0 else 0.0


def _get(http: httpx.Client, url: str) -> dict[str, Any]:
    try:
        response = http.get(url)
        response.raise_for_status()
        document = orjson.loads(response.content)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ModelError(f"{url}: {error or type(error).__name__}") from error
    except orjson.JSONDecodeError as error:
        raise ModelError(f"{url}: is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ModelError(f"{url}: is not a JSON object")
    return document


def merge(parts: Iterable[Evidence]) -> Evidence:
    """Several sources of the same engine as one; later limits replace earlier ones."""
    merged = Evidence("", ())
    for part in parts:
        merged = Evidence(
            source=f"{merged.source}, {part.source}".lstrip(", "),
            observations=(*merged.observations, *part.observations),
            scheduler={**merged.scheduler, **part.scheduler},
            overhead=part.overhead if part.overhead.requests else merged.overhead,
            engine={**merged.engine, **part.engine},
        )
    return merged
