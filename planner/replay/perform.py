"""What ``loadline replay run`` does: whom to play against, where the run is kept, what was played before."""

import asyncio
import itertools
import signal
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from planner.commands.options import note
from planner.errors import ReplayError, RunError
from planner.replay.exchange import Exchange
from planner.replay.local_engine import local_engine
from planner.replay.narrator import Narrator
from planner.replay.playing import Playing
from planner.replay.recorder import Recorder
from planner.replay.runs import DEFAULT_RUNS, META, RunStore
from planner.replay.session import replay
from planner.result import Run
from planner.slo import Slo
from planner.traces.trace import Trace

TWIN, ENGINE = "twin:", "engine:"


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where a run is kept: as a new one named ``run_id``, as the going on of ``resume``, or nowhere."""

    runs: Path | None = None
    run_id: str | None = None
    resume: str | None = None
    keep: bool = True

    def recorder(self, trace: str, playing: Playing) -> "AbstractContextManager[Recorder | None]":
        """What writes the run's folder. Raises RunError when the name is taken or there is nothing to resume."""
        if not self.keep:
            return nullcontext()
        store = RunStore(self.runs or DEFAULT_RUNS)
        if self.resume is not None:
            meta = store.meta(self.resume)
            if meta.state not in ("stopped", "lost", "failed"):
                raise RunError(f"run {self.resume!r} is {meta.state}: only what was interrupted can be resumed")
            if meta.options != playing.told():
                raise RunError(f"run {self.resume!r} was played with {meta.options}, not {playing.told()}")
        elif self.run_id is not None and (store.folder(self.run_id) / META).exists():
            meta = store.meta(self.run_id)
            if meta.state != "preparing" or meta.pid is not None:
                raise RunError(f"{store.folder(self.run_id)}: there is a run of this name")
            meta = meta.model_copy(update={"options": playing.told()})
        else:
            meta = store.create(trace, playing.url, playing.told(), self.run_id)
        return Recorder(store, meta)


def perform(trace: Trace, playing: Playing, recorder: Recorder | None, *, forever: bool = False) -> tuple[Run, bool]:
    """Play the shaped trace, whatever the target is; the run, and whether it was stopped early."""
    before: Sequence[Exchange] = ()
    if recorder is not None:
        before = recorder.begin(trace.sha256())
        playing = replace(playing, name=recorder.meta.id)
    if playing.url.startswith(TWIN):
        return _simulate(trace, playing, recorder), False
    if not playing.url.startswith(ENGINE):
        return asyncio.run(_rounds(trace, playing, recorder, before, forever=forever))
    with local_engine(playing.url[len(ENGINE) :]) as url:
        return asyncio.run(_rounds(trace, replace(playing, url=url), recorder, before, forever=forever))


async def _rounds(
    trace: Trace, playing: Playing, recorder: Recorder | None, before: Sequence[Exchange], *, forever: bool
) -> tuple[Run, bool]:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    for seed in itertools.count(playing.seed):  # new prompts each round, or the prefix cache would serve them all
        with Narrator(recorder, quiet=forever) as narrator:
            result = await replay(trace, replace(playing, seed=seed), narrator, stop, before)
        if stop.is_set() or not forever:
            break
    return result, stop.is_set()


def _simulate(trace: Trace, playing: Playing, recorder: Recorder | None) -> Run:
    from planner.sim import Twin, simulate
    from planner.steps.latency import read_model

    if playing.sessions == "closed":
        raise ReplayError("the twin answers without text: it plays sessions open only")
    fitted = read_model(Path(playing.url[len(TWIN) :]))
    if recorder is not None:
        recorder.started(len(trace), trace.duration_s, str(fitted.engine.get("model", "")))
    run = simulate(
        trace,
        Twin.of(fitted),
        seed=playing.seed,
        slo=playing.slo or Slo(),
        shaping=playing.shaping.model_dump(exclude_defaults=True, mode="json"),
        model_name=str(fitted.engine.get("model", "")),
    )
    versions = {"loadline": metadata.version("loadline")}
    header = run.header.model_copy(update={"target": playing.url, "warm_up_s": playing.warm_up_s, "versions": versions})
    note(f"simulated {len(run.requests)} requests")
    return replace(run, header=header)


def read_token(path: Path | None) -> str | None:
    """The bearer token in a file. Raises ReplayError when it cannot be read."""
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ReplayError(f"{path}: cannot be read: {error.strerror}") from error
