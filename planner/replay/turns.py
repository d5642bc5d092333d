"""Sessions played in turns: a turn is asked once the one before was answered, and holds what was really said.

The first turn of a session goes out by the trace's clock, with the prompt that the trace describes. Every other one is
the conversation so far, the server's own answers in it, and as many new tokens as the trace has it grow by.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from planner.prompts import WordPool, own_words, prompt_lengths
from planner.replay.exchange import Exchange, Message, Planned
from planner.replay.layout import Layout
from planner.traces.trace import IntArray, Ragged, Trace

Said = str | list[Message]


def successors(trace: Trace, rows: IntArray) -> Mapping[int, Sequence[int]]:
    """By place in the trace: the places of the turns that come next.

    A turn comes after its ``parent_request_id`` or, where none is told or it is not there, the last one of its session.
    """
    sessions, names, parents = (values_of(trace, of) for of in ("session_id", "request_id", "parent_request_id"))
    last: dict[object, int] = {}
    named: dict[tuple[object, object], int] = {}
    found: dict[int, list[int]] = defaultdict(list)
    for row in rows.tolist():
        session = sessions[row]
        if session is None:
            continue
        before = named.get((session, parents[row]), last.get(session))
        if before is not None:
            found[before].append(row)
        last[session] = row
        if names[row] is not None:
            named[session, names[row]] = row
    return found


def values_of(trace: Trace, name: str) -> list[object]:
    """A column as a list, None where the source did not say."""
    column = trace.column(name)
    if column is None or isinstance(column, Ragged):
        return [None] * len(trace)
    missing = trace.missing.get(name)
    values: list[object] = column.tolist()
    return values if missing is None else [None if gone else value for value, gone in zip(values, missing, strict=True)]


class Turns:
    """The conversations of one play: who comes after whom, and what was said so far where more is to come.

    ``speed`` is what the trace's clock was divided by: recorded times of thinking are too.
    """

    def __init__(self, layout: Layout, pool: WordPool, rows: IntArray, speed: float) -> None:
        trace = layout.trace
        self._layout = layout
        self._pool = pool
        self._speed = speed
        self._lengths = prompt_lengths(trace)
        self._next = successors(trace, rows)
        self._after_ms, self._e2e_ms = values_of(trace, "after_ms"), values_of(trace, "rec_e2e_ms")
        self._said: dict[int, Said] = {}
        self._place = {int(trace.row_id[row]): row for row in rows.tolist()}
        later = {row for turns in self._next.values() for row in turns}
        self._first = np.array([row for row in rows.tolist() if row not in later], dtype=np.int64)

    def openings(self) -> Iterator[Planned]:
        """The first turn of every session, in order of arrival; requests without a session are one each."""
        for row, prompt in zip(self._first.tolist(), self._layout.prompts(self._first), strict=True):
            yield self._asked(row, float(self._layout.trace.arrival_ns[row]) / 1e9, self._alone(prompt))

    def follow(self, exchange: Exchange) -> Iterator[Planned | Exchange]:
        """What comes after a turn that ended; if it failed, none of them can be asked."""
        row = self._place[exchange.row_id]
        said, turns = self._said.pop(row, ""), self._next.get(row, ())
        answer, exchange.answer = "".join(exchange.answer or ()), None
        for turn in turns:
            if exchange.status == "ok":
                yield self._asked(turn, self._due_s(row, turn, exchange), self._with(said, answer, row, turn))
            elif exchange.status != "cancelled":
                yield from self._lost(turn, exchange.due_s)

    def _lost(self, row: int, due_s: float) -> Iterator[Exchange]:
        row_id = int(self._layout.trace.row_id[row])
        yield Exchange(row_id, due_s, end_s=due_s, status="error", error="the turn before it failed")
        for turn in self._next.get(row, ()):
            yield from self._lost(turn, due_s)

    def _due_s(self, row: int, turn: int, exchange: Exchange) -> float:
        """After the answer and the time to think: as recorded, or as is left of the gap between the arrivals."""
        arrival_ns = self._layout.trace.arrival_ns
        gap_s, end_s = float(arrival_ns[turn] - arrival_ns[row]) / 1e9, exchange.end_s or exchange.due_s
        after_ms, e2e_ms = self._after_ms[turn], self._e2e_ms[row]
        if isinstance(after_ms, float):
            return end_s + after_ms / 1e3 / self._speed
        if isinstance(e2e_ms, float):
            return end_s + max(gap_s - e2e_ms / 1e3 / self._speed, 0.0)
        return max(end_s, exchange.due_s + gap_s)

    def _with(self, said: Said, answer: str, row: int, turn: int) -> Said:
        layout = self._layout
        new = int(self._lengths[turn] - self._lengths[row] - layout.trace.output_tokens[row])
        if new < 1:  # the trace's conversation was cut: it begins anew
            return self._alone(next(layout.prompts(np.array([turn]))))
        words = own_words(layout.trace, self._pool, layout.seed, turn, new)
        if isinstance(said, str):
            return said + answer + self._pool.joiner + words
        return [*said, {"role": "assistant", "content": answer}, {"role": "user", "content": words}]

    def _alone(self, prompt: IntArray | str) -> Said:
        assert isinstance(prompt, str)
        return prompt if self._layout.wording.endpoint == "completions" else [{"role": "user", "content": prompt}]

    def _asked(self, row: int, due_s: float, said: Said) -> Planned:
        if row in self._next:
            self._said[row] = said
        return self._layout.request(row, due_s, said)
