"""The part of a replay that one process plays: its requests written out, its connections opened, then played."""

import asyncio
import resource
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from planner.replay.exchange import Exchange
from planner.replay.layout import Layout, Wording
from planner.replay.player import Player
from planner.replay.playing import Playing
from planner.replay.script import Script
from planner.replay.target import Target
from planner.replay.turns import Turns, values_of
from planner.replay.wire import Wire
from planner.traces.trace import IntArray, Trace

MAX_OPEN = 256
"""Connections opened before the first request; more are opened as they are needed."""


@dataclass(frozen=True, slots=True)
class Told:
    """Is called with how many requests went out, and with each that ended."""

    sent: Callable[[int], None]
    ended: Callable[[Exchange], None]


@dataclass(frozen=True, slots=True)
class Share:
    """What one process is given: the whole trace, and the places ``rows`` in it of the requests that it plays."""

    trace: Trace
    playing: Playing
    target: Target
    wording: Wording
    run_id: str
    rows: IntArray

    def split(self, count: int) -> "list[Share]":
        """``count`` shares of every ``count``-th request each, or of every ``count``-th closed session."""
        places = np.arange(len(self.rows))
        if self.playing.sessions == "closed":
            sessions = values_of(self.trace, "session_id")
            begun: dict[object, int] = {}
            names = (sessions[row] if sessions[row] is not None else (row,) for row in self.rows.tolist())
            places = np.array([begun.setdefault(name, len(begun)) for name in names], dtype=np.int64)
        return [replace(self, rows=self.rows[places % count == first]) for first in range(count)]

    def script(self) -> Script:
        """What is sent when."""
        playing, wording = self.playing, self.wording
        layout = Layout(self.trace, self.target, playing.seed, self.run_id, wording)
        if playing.sessions == "open" or wording.pool is None:
            return Script(layout.requests(self.rows))
        turns = Turns(layout, wording.pool, self.rows, playing.shaping.speed)
        return Script(turns.openings(), turns.follow)


class Stage:
    """A share made ready: everything that can be done before the clock starts."""

    def __init__(self, share: Share) -> None:
        playing = share.playing
        self._wire = Wire(
            playing.url,
            playing.endpoint,
            token=playing.token,
            timeout_s=playing.timeout_s,
            answers=playing.sessions == "closed",
        )
        self._script = share.script()
        while self._script.write_on():
            pass
        self._busiest = _busiest_second(share.trace.arrival_ns[share.rows])

    async def open(self) -> None:
        """Open as many connections as the busiest second sends requests."""
        _allow_many_files()
        await self._wire.open(min(self._busiest, MAX_OPEN))

    async def play(self, zero_s: float, told: Told, stop: asyncio.Event) -> list[Exchange]:
        """Play the share on the clock that starts at the monotonic time ``zero_s``."""
        self._wire.zero_s = zero_s
        player = Player(self._script, self._wire.start, self._wire.cancel, zero_s, lambda: told.sent(1), told.ended)
        try:
            return await player.play(stop)
        finally:
            self._wire.close()
            await asyncio.sleep(0)  # closed connections are let go of at the loop's next turn


def _busiest_second(arrival_ns: IntArray) -> int:
    return int(np.bincount((arrival_ns - arrival_ns[0]) // 1_000_000_000).max()) if len(arrival_ns) else 0


def _allow_many_files() -> None:
    """Every connection is an open file: take as many as the system lets this process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
