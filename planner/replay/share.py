"""The part of a replay that one process plays: its requests laid out, its connections opened, then played."""

import asyncio
import resource
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from planner.replay.exchange import Exchange
from planner.replay.layout import Wording, lay_out
from planner.replay.player import Player
from planner.replay.playing import Playing
from planner.replay.target import Target
from planner.replay.wire import Wire
from planner.trace import IntArray, Trace

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
        """``count`` shares of every ``count``-th request each."""
        return [replace(self, rows=self.rows[first::count]) for first in range(count)]


class Stage:
    """A share made ready: everything that can be done before the clock starts."""

    def __init__(self, share: Share) -> None:
        playing = share.playing
        self._wire = Wire(playing.url, playing.endpoint, token=playing.token, timeout_s=playing.timeout_s)
        self._plan = lay_out(share.trace, share.target, share.playing.seed, share.run_id, share.wording, share.rows)
        self._busiest = _busiest_second(share.trace.arrival_ns[share.rows])

    async def open(self) -> None:
        """Open as many connections as the busiest second sends requests."""
        _allow_many_files()
        await self._wire.open(min(self._busiest, MAX_OPEN))

    async def play(self, zero_s: float, told: Told, stop: asyncio.Event) -> list[Exchange]:
        """Play the share on the clock that starts at the monotonic time ``zero_s``."""
        self._wire.zero_s = zero_s
        player = Player(self._plan, self._wire.start, self._wire.cancel, zero_s, lambda: told.sent(1), told.ended)
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
