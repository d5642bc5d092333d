"""How a replay goes on, told to a person at a terminal and to the run's folder."""

import sys
import time
from typing import Any

from planner.commands.options import note
from planner.replay.exchange import Exchange
from planner.replay.recorder import Recorder
from planner.replay.session import Outline
from planner.replay.target import Target

LINE_EVERY_S = 5.0


class Narrator:
    """Progress on stderr: a bar on a terminal, elsewhere a line every few seconds; and into the run's folder."""

    def __init__(self, recorder: Recorder | None = None, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._recorder = recorder
        self._bar: Any = None
        self._task: Any = None
        self._total = self._sent = self._ended = self._failed = 0
        self._last_line = time.monotonic()

    def __enter__(self) -> "Narrator":
        if sys.stderr.isatty() and not self._quiet:
            from rich.console import Console
            from rich.progress import Progress, TextColumn, TimeRemainingColumn

            columns = (*Progress.get_default_columns()[:2], TextColumn("{task.fields[told]}"), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def started(self, target: Target, outline: Outline) -> None:
        """Tell what is about to be played."""
        self._total = outline.planned
        self._sent = self._ended = outline.done
        note(f"{self._total} requests over {outline.planned_s:.0f} s to {target.model} at {target.url}")
        if outline.done:
            note(f"{outline.done} of them were played before")
        if outline.overlong:
            note(
                f"{outline.overlong} of them ask for more than the model's {target.max_model_len} tokens and will be "
                "refused; --token-scale makes them shorter"
            )
        if self._recorder is not None:
            self._recorder.started(self._total, outline.planned_s, target.model, outline.done)
        if self._bar is not None:
            self._task = self._bar.add_task("replay", total=self._total, completed=outline.done, told="")

    def sent(self, count: int = 1) -> None:
        """More went out."""
        self._sent += count

    def ended(self, exchange: Exchange) -> None:
        """One more ended; the first failure is told at once."""
        self._ended += 1
        if exchange.status != "ok":
            self._failed += 1
            if self._failed == 1:
                note(f"first failure, request {exchange.row_id}: {exchange.error}")
        if self._recorder is not None:
            self._recorder.ended(exchange)
            self._recorder.progress(self._sent, self._ended, self._failed)
        told = f"{self._sent} sent, {self._ended} done, {self._failed} failed"
        if self._bar is not None:
            self._bar.update(self._task, completed=self._ended, told=told)
        elif not self._quiet and time.monotonic() - self._last_line >= LINE_EVERY_S:
            self._last_line = time.monotonic()
            note(f"{told} of {self._total}")
