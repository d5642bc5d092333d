"""Headroom from a process of its own: the twin computes for seconds, and the pages must not wait for its turn.

One short-lived, low-priority child per question: question in as JSON on its stdin, answer out as a pickle.
"""

import json
import os
import pickle
import subprocess
import sys
from threading import Lock
from typing import TYPE_CHECKING

from dashboard.errors import TwinError
from dashboard.words import said_reason, say
from planner.slo import Slo

if TYPE_CHECKING:
    from planner.room.headroom import PoolHeadroom

TIMEOUT_S = 300.0
NICENESS = 10
COMMAND = (sys.executable, "-c", "from dashboard.twin import answer; answer()")


class Twin:
    """Asks ``planner.room.headroom`` about the server at ``address``."""

    def __init__(self, address: str, token: str | None = None) -> None:
        self._address = address
        self._token = token
        self._lock = Lock()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def headroom(self, slo: Slo, at_s: float) -> "tuple[PoolHeadroom, ...]":
        """Headroom of every pool at ``at_s``. Raises TwinError."""
        question = {"address": self._address, "token": self._token, "slo": slo.model_dump(), "at_s": at_s}
        pipe = subprocess.PIPE
        with self._lock:
            if self._closed:
                raise TwinError("the twin is closed")
            child = subprocess.Popen(COMMAND, stdin=pipe, stdout=pipe, stderr=pipe)
            self._children.add(child)
        try:
            out, said = child.communicate(json.dumps(question).encode(), timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            child.kill()
            child.communicate()
            raise TwinError(say("the twin gave no answer within {seconds} s", seconds=f"{TIMEOUT_S:g}")) from error
        finally:
            self._children.discard(child)
        if child.returncode != 0:
            lines = said.decode(errors="replace").strip().splitlines() or [
                say("exit code {code}", code=child.returncode)
            ]
            raise TwinError(say("the twin failed: {why}", why=said_reason(lines[-1])))
        found: tuple[PoolHeadroom, ...] = pickle.loads(out)
        return found

    def close(self) -> None:
        """End what is being computed."""
        with self._lock:
            self._closed = True
            for child in tuple(self._children):
                child.kill()


def answer() -> None:
    """The child: read the question, compute, write the answer."""
    from collector.client import Client
    from collector.signals import detect
    from planner.room.headroom import live_headroom

    os.nice(NICENESS)
    question = json.load(sys.stdin)
    with Client(question["address"], token=question["token"]) as client:
        vocabulary = detect(client.metric_names())
        found = live_headroom(client, vocabulary, Slo.model_validate(question["slo"]), question["at_s"])
    sys.stdout.buffer.write(pickle.dumps(found))
