"""Runs of vLLM that somebody else measured: four times per request become a ``Run`` that a twin can be fitted on.

Two formats: the bench of LLMServingSim (``requests.jsonl`` with ``meta.json`` beside it) and vLLM's OpenTelemetry
spans (one ``resourceSpans`` object a line, limits in ``exp-config.yaml`` beside it). Neither times single steps, but a
request that decodes gets a token with every step, so its decode is a sum of steps whose sizes the other requests tell:
``observations`` has one such sum per request, tokens of the others taken as spread evenly over their own decode. What
prompts cost is told best by those that were computed while no other was: each is a sum of its chunks.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from planner.errors import RunError
from planner.result import FloatArray, IntArray, Observation, Requests, Run, RunHeader, read_run

LEAST_TOKENS = 16
BLOCK = 16  # tokens in a KV block of vLLM, where it is not told
_LIMITS = ("max_num_seqs", "max_num_batched_tokens", "max_model_len")
_KV_SIZE = re.compile(r"GPU KV cache size: ([\d,]+) tokens")
_HIT_RATE = re.compile(r"Prefix cache hit rate: ([\d.]+)%")
_SPAN_KEYS = {
    *(f"gen_ai.latency.{name}" for name in ("time_in_queue", "time_to_first_token", "e2e")),
    *(f"gen_ai.usage.{name}_tokens" for name in ("prompt", "completion")),
}
_UNTOLD = {"max_model_len": 131_072, "num_blocks": 1_000_000}


@dataclass(frozen=True, slots=True)
class Timed:
    """Requests of a measured run in the order in which they were queued; times are seconds, arrays (rows,).

    ``cached`` are those prompt tokens that were found in the prefix cache, ``budget_tokens`` the most that a step
    computes; None where it is not known.
    """

    queued_s: FloatArray
    scheduled_s: FloatArray
    first_s: FloatArray
    last_s: FloatArray
    prompt: IntArray
    output: IntArray
    cached: IntArray | None = None
    budget_tokens: int | None = None

    @property
    def found(self) -> IntArray:
        """``cached``, and nothing where it is not known."""
        return np.zeros_like(self.prompt) if self.cached is None else self.cached


def sniff_measured(head: bytes) -> bool:
    """Whether a file that begins so is one of the two."""
    line = head.lstrip().split(b"\n", 1)[0]
    return line.startswith(b'{"resourceSpans"') or (b'"queued_ts"' in line and b'"first_token_ts"' in line)


def read_any(path: Path) -> Run:
    """A run of ours or one measured elsewhere, told apart by content. Raises RunError."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        head = b""
    return read_measured(path) if sniff_measured(head) else read_run(path)


def read_measured(path: Path) -> Run:
    """Read a measured run. Raises RunError with file, line and what is wrong."""
    try:
        lines = [(number, line) for number, line in enumerate(path.read_bytes().splitlines(), 1) if line.strip()]
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error
    rows: list[tuple[float, ...]] = []
    unended = 0
    for number, line in lines:
        try:
            document = orjson.loads(line)
            found = list(_rows(document))
            unended += not found and "queued_ts" in document
            rows.extend(found)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(f"{path}:{number}: is not a measured request: {type(error).__name__} {error}") from error
    if not rows:
        raise RunError(f"{path}: holds no request that ended")
    table = np.array(sorted(rows), dtype=np.float64)
    table[:, :4] -= table[0, 0]
    limits, model, untold = _beside(path)
    logged, cached_ratio = _logged(path.with_name("vllm.log"))
    limits |= {name: value for name, value in logged.items() if name in untold or name not in limits}
    header = _header(path, limits, model, tuple(name for name in untold if name not in logged), unended)
    queued, scheduled, first, last = table[:, :4].T
    prompt, output = table[:, 4:].T.astype(np.int64)
    cached = common_prefix(prompt, cached_ratio, limits.get("block_size", BLOCK))
    timed = Timed(queued, scheduled, first, last, prompt, output, cached, limits.get("max_num_batched_tokens"))
    return Run(header, _requests(timed), tuple(observations(timed)))


def observations(timed: Timed) -> Iterator[Observation]:
    """A sum of steps per request with at least 16 tokens, and one per prompt computed alone, in the requests' order."""
    for row in range(len(timed.queued_s)):
        if (alone := _prompt_alone(timed, row)) is not None:
            yield alone
        if timed.output[row] >= LEAST_TOKENS:
            yield _decode(timed, row)


def common_prefix(prompt: IntArray, ratio: float, block_size: int) -> IntArray:
    """Prompt tokens that were found cached, (rows,), where in all a share ``ratio`` of them was.

    As if all prompts began with the same whole blocks, so many that the share comes out, which the first request has
    to compute: what prompts of different lengths share is a beginning, not a part in proportion.
    """
    whole = np.maximum(prompt - 1, 0) // block_size * block_size
    whole[:1] = 0
    lengths = np.arange(0, int(whole.max(initial=0)) + 1, block_size)
    sums = np.array([int(np.minimum(whole, length).sum()) for length in lengths])
    return np.asarray(np.minimum(whole, lengths[np.abs(sums - ratio * prompt.sum()).argmin()]), dtype=np.int64)


def _decode(timed: Timed, row: int) -> Observation:
    """The steps from a request's first token to its last."""
    starts, ends = timed.first_s, timed.last_s
    gaps = np.maximum(timed.output - 1, 0)
    begin, end = starts[row], ends[row]
    decodes, context = _decoding(timed, begin, end)
    tokens = decodes * gaps
    prefill_span = np.maximum(starts - timed.scheduled_s, 1e-9)
    inside = np.minimum(starts, end) - np.maximum(timed.scheduled_s, begin)
    prefill = np.clip(inside / prefill_span, 0.0, 1.0) * (timed.prompt - timed.found)
    return Observation(
        steps=float(gaps[row]),
        wall_s=float(end - begin),
        prefill_tokens=float(prefill.sum()),
        prefill_attention=float((prefill * (timed.found + timed.prompt + 1) / 2).sum()),
        decode_seqs=float(tokens.sum()),
        decode_kv_tokens=float((tokens * context).sum()),
        start_s=float(timed.queued_s[row]),
        end_s=float(end),
    )


def _decoding(timed: Timed, begin: float, end: float) -> tuple[FloatArray, FloatArray]:
    """Share of its own decode that each request does between two times, and its mean context then."""
    starts, ends = timed.first_s, timed.last_s
    spans = np.maximum(ends - starts, 1e-9)
    low, high = np.maximum(starts, begin), np.minimum(ends, end)
    middle = np.clip(((low + high) / 2 - starts) / spans, 0.0, 1.0)
    return np.maximum(high - low, 0.0) / spans, timed.prompt + middle * np.maximum(timed.output - 1, 0)


def _prompt_alone(timed: Timed, row: int) -> Observation | None:
    """The steps that computed a prompt, if no other prompt was computed meanwhile and nobody decoded."""
    begin, end = timed.scheduled_s[row], timed.first_s[row]
    busy = (timed.scheduled_s < end) & (timed.last_s > begin)
    if timed.budget_tokens is None or busy.sum() > 1 or end <= begin:
        return None
    prompt, found = int(timed.prompt[row]), int(timed.found[row])
    return Observation(
        steps=float(-(-(prompt - found) // timed.budget_tokens)),
        wall_s=float(end - begin),
        prefill_tokens=float(prompt - found),
        prefill_attention=float(prompt * (prompt + 1) // 2 - found * (found + 1) // 2),
        decode_seqs=0.0,
        decode_kv_tokens=0.0,
        start_s=float(timed.queued_s[row]),
        end_s=float(end),
    )


def _rows(document: Any) -> Iterator[tuple[float, ...]]:
    """(queued, scheduled, first, last, prompt tokens, output tokens) of each request of a line that ended."""
    if "queued_ts" in document:
        names = ("queued_ts", "scheduled_ts", "first_token_ts", "last_token_ts", "input_toks", "output_toks")
        values = [document[name] for name in names]
        if None not in values:  # a request that was aborted lacks its later times
            yield tuple(float(value) for value in values)
        return
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                told = {one["key"]: next(iter(one["value"].values())) for one in span["attributes"]}
                if not told.keys() >= _SPAN_KEYS:
                    continue
                start = int(span["startTimeUnixNano"]) / 1e9
                queued = float(told["gen_ai.latency.time_in_queue"])
                first, end = (float(told[f"gen_ai.latency.{name}"]) for name in ("time_to_first_token", "e2e"))
                tokens = (int(told[f"gen_ai.usage.{name}_tokens"]) for name in ("prompt", "completion"))
                yield (start, start + queued, start + first, start + end, *tokens)


def _beside(path: Path) -> tuple[dict[str, int], str, tuple[str, ...]]:
    """Scheduler limits and model that the files beside a run tell, and the names of limits that they do not."""
    told: dict[str, Any] = {}
    model = ""
    meta, experiment = path.with_name("meta.json"), path.with_name("exp-config.yaml")
    if meta.is_file():
        document = orjson.loads(meta.read_bytes())
        cache = document.get("kv_cache") or {}
        resolved = (document.get("resolved_config") or {}).get("scheduler_config") or {}
        given = {key: value for key, value in (document.get("engine_kwargs") or {}).items() if value is not None}
        told = {**resolved, **given, "num_blocks": cache.get("num_gpu_blocks")}
        told["block_size"] = cache.get("block_size")
        model = str(document.get("model", ""))
    elif experiment.is_file():
        pairs = [line.split(":", 1) for line in experiment.read_text().splitlines() if ":" in line]
        told = {key.strip(): value.strip() for key, value in pairs}
        model = str(told.get("model", ""))
    names = (*_LIMITS, "num_blocks", "block_size")
    limits = {name: int(told[name]) for name in names if str(told.get(name)).isdecimal()}
    untold = tuple(name for name in _UNTOLD if name not in limits)
    return {**{name: _UNTOLD[name] for name in untold}, **limits}, model, untold


def _logged(log: Path) -> tuple[dict[str, int], float]:
    """Size of the KV cache, and the prefix cache's hit ratio half way through, as vLLM logged them beside a run."""
    if not log.is_file():
        return {}, 0.0
    text = log.read_text(errors="replace")
    size = _KV_SIZE.search(text)
    rates = [float(rate) for rate in _HIT_RATE.findall(text)]
    limits = {} if size is None else {"num_blocks": int(size[1].replace(",", "")) // BLOCK, "block_size": BLOCK}
    return limits, rates[len(rates) // 2] / 100 if rates else 0.0


def _header(path: Path, limits: dict[str, int], model: str, untold: tuple[str, ...], unended: int) -> RunHeader:
    notes = [f"{name} is not told: taken as {_UNTOLD[name]}" for name in untold]
    if unended:
        notes.append(f"{unended} requests left out: they did not end")
    details: dict[str, Any] = {"scheduler": limits, "notes": notes} if notes else {"scheduler": limits}
    return RunHeader(
        kind="replay", target="measured elsewhere", model=model, trace=str(path), trace_sha256="", details=details
    )


def _requests(timed: Timed) -> Requests:
    rows = len(timed.queued_s)
    return Requests(
        row_id=np.arange(rows, dtype=np.int64),
        due_s=timed.queued_s,
        sent_s=timed.queued_s,
        first_token_s=timed.first_s,
        last_token_s=timed.last_s,
        end_s=timed.last_s,
        input_tokens=timed.prompt,
        output_tokens=timed.output,
        cached_tokens=timed.found.astype(np.float64),
        status=np.full(rows, "ok", dtype="<U10"),
        error=(None,) * rows,
    )
