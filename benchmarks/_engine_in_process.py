"""The engine in this process, alone on a clock of its own: the CPU time of the thread that computes.

Idle time is skipped and neighbours on the machine do not count, so a run measures the engine and its model and nothing
else. There is no HTTP: what a request waits outside of the engine is not part of it.
"""

import time
from typing import Any

import numpy as np
import torch

from planner.prompts import token_prompts
from planner.result import Observation, Requests, Run, RunHeader
from planner.traces.trace import Trace
from probe_engine.runtime.build import build_engine
from probe_engine.runtime.engine import Engine
from probe_engine.runtime.generation import Generation
from probe_engine.sched import Request
from probe_engine.settings import EngineSettings
from probe_engine.telemetry.metrics import EngineMetrics


class EngineInProcess:
    """One engine of one thread; ``play`` serves a trace to its end."""

    def __init__(self, settings: EngineSettings) -> None:
        torch.set_num_threads(1)
        self.loaded, built, _ = build_engine(settings, EngineMetrics(settings.model))
        self._runner = built._runner
        self._config = built.scheduler.config
        self._skipped_s = 0.0

    def now_s(self) -> float:
        """CPU seconds of this thread, and what was skipped."""
        return time.thread_time() + self._skipped_s

    def play(self, trace: Trace, seed: int) -> Run:
        """Every request at its time; times are seconds from the start of the run."""
        engine = Engine(
            self._runner,
            self.loaded.tokenizer,
            self._config,
            EngineMetrics("engine"),
            clock=self.now_s,
            record_tokens=True,
        )
        texts = [prompt.tolist() for prompt in token_prompts(trace, 3, self.loaded.config.vocab_size, seed=seed)]
        due_s = (trace.arrival_ns / 1e9).tolist()
        ended: dict[int, Request] = {}
        coming, rows, start_s = 0, len(trace), self.now_s()
        while coming < rows or engine.has_work:
            if not engine.has_work:
                self._skipped_s += max(due_s[coming] - (self.now_s() - start_s), 0.0)
            while coming < rows and due_s[coming] <= self.now_s() - start_s:
                tokens, arrival_s = int(trace.output_tokens[coming]), start_s + due_s[coming]
                engine.add(Generation(str(coming), texts[coming], tokens, arrival_s, ignore_eos=True))
                coming += 1
            for output in engine.step():
                if output.request is not None:
                    ended[int(output.request_id)] = output.request
            if not engine.has_work:
                engine.idle()
        steps = tuple(
            Observation(
                wall_s=one.wall_s,
                prefill_tokens=one.prefill_tokens,
                prefill_attention=one.prefill_attention,
                decode_seqs=one.decode_seqs,
                decode_kv_tokens=one.decode_kv_tokens,
                start_s=one.start_s - start_s,
                end_s=one.start_s - start_s + one.wall_s,
            )
            for one in engine.steps.since(0)
        )
        return Run(self._header(trace, seed), _requests(trace, [ended[row] for row in range(rows)], start_s), steps)

    def _header(self, trace: Trace, seed: int) -> RunHeader:
        config = self._config
        limits: dict[str, Any] = {
            name: getattr(config, name)
            for name in ("num_blocks", "block_size", "max_num_batched_tokens", "max_num_seqs", "max_model_len")
        }
        return RunHeader(
            kind="replay",
            target="in process",
            model=self.loaded.name,
            trace=trace.header.source,
            trace_sha256=trace.sha256(),
            seed=seed,
            details={"scheduler": limits},
        )


def _requests(trace: Trace, served: list[Request], start_s: float) -> Requests:
    lines = [one.timeline for one in served]
    rows = len(served)
    due_s = trace.arrival_ns / 1e9

    def column(name: str) -> Any:
        return np.array([getattr(line, name) - start_s for line in lines], dtype=np.float64)

    return Requests(
        row_id=trace.row_id,
        due_s=due_s,
        sent_s=due_s,
        first_token_s=column("first_token_s"),
        last_token_s=column("last_token_s"),
        end_s=column("last_token_s"),
        input_tokens=trace.input_tokens,
        output_tokens=trace.output_tokens,
        cached_tokens=np.array([one.cached_tokens for one in served], dtype=np.float64),
        status=np.full(rows, "ok", dtype="<U10"),
        error=(None,) * rows,
        token_times_s=tuple(np.array(line.token_times or (), dtype=np.float64) - start_s for line in lines),
    )
