"""Open the traces that a command names, shape them, and say what became of their lines."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from planner.errors import TraceError
from planner.readers import open_trace, problems, quarantine_file
from planner.readers.lines import Sink
from planner.readers.stream import OutOfReach, TraceStream
from planner.shaping.lengths import lengths_from
from planner.shaping.piecewise import shaped
from planner.shaping.repeat import merge
from planner.traces.trace import Trace, TraceHeader, concatenate
from planner.traces.workload import Shaping, check_playable

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which traces are to be read, and how.

    ``kind`` forces their format. Several are merged, ``by_clock`` or begun together. ``lengths`` names the trace that
    lengths are drawn from. ``quarantine`` is the file that gets every row set aside; ``max_bad`` the share of lines
    that may be.
    """

    paths: tuple[Path, ...]
    shaping: Shaping = Shaping()
    kind: str | None = None
    strict: bool = False
    quarantine: Path | None = None
    max_bad: float = 1.0
    by_clock: bool = False
    lengths: Path | None = None
    tokenizer: Path | None = None


class Loading:
    """Traces while they are read: the pieces first, then the header and what became of the lines."""

    def __init__(self, wanted: Wanted, sink: Sink | None, *, whole: bool) -> None:
        self._wanted = wanted
        self._whole = whole or len(wanted.paths) > 1 or wanted.lengths is not None
        self._last: Trace | None = None
        self.streams = [self._open(path, sink) for path in wanted.paths]

    def _open(self, path: Path, sink: Sink | None = None) -> TraceStream:
        wanted = self._wanted
        seed, tokenizer = wanted.shaping.seed, wanted.tokenizer
        return open_trace(path, kind=wanted.kind, strict=wanted.strict, sink=sink, seed=seed, tokenizer=tokenizer)

    def pieces(self) -> Iterator[Trace]:
        """The shaped requests in order of arrival. Raises PlannerError."""
        wanted = self._wanted
        source = iter([self._merged()]) if self._whole else self.streams[0].pieces()
        for piece in shaped(source, wanted.shaping):
            self._last = piece
            yield piece
        for stream in self.streams:
            counts = stream.account().counts
            bad = counts.quarantined + counts.parts_quarantined
            if bad > wanted.max_bad * counts.lines:
                raise TraceError(
                    f"{stream.path}: {bad} of {counts.lines} lines are set aside, more than {wanted.max_bad:.2%}"
                )

    def _merged(self) -> Trace:
        trace = merge([stream.read().trace for stream in self.streams], by_clock=self._wanted.by_clock)
        if self._wanted.lengths is not None:
            other = open_trace(self._wanted.lengths, tokenizer=self._wanted.tokenizer).read().trace
            trace = lengths_from(trace, other, self._wanted.shaping.seed)
        return trace

    def header(self) -> TraceHeader:
        """The header of the shaped trace, once all pieces were read."""
        if self._last is None:
            return self.streams[0].header()
        if self._whole:
            return self._last.header
        found = self.streams[0].header()
        start_ns = round((self._wanted.shaping.window_start_s or 0.0) * 1e9)
        transforms = (*found.transforms, *self._last.header.transforms)
        return replace(found, origin_ns=found.origin_ns + start_ns, transforms=transforms)

    def tell(self, note: Note) -> None:
        """Say which rows have problems and what else a person should know."""
        for stream in self.streams:
            account = stream.account()
            for line in problems(stream.path, account):
                note(line)
            for remark, count in account.remarks.items():
                note(f"{stream.path}: {remark}" + (f" ({count})" if count > 1 else ""))
            aside = account.counts.quarantined + account.counts.parts_quarantined
            if aside and self._wanted.quarantine is not None:
                note(f"{self._wanted.quarantine}: the {aside} rows of {stream.path} that were set aside")
            elif aside:
                note(f"{stream.path}: --quarantine FILE writes the {aside} rows that were set aside to FILE")


def load(wanted: Wanted, use: Callable[[Loading], None], note: Note) -> Loading:
    """Read the traces, giving the loading to ``use``, which goes through its pieces; then tell of problems.

    A file that is too far out of order to be put in order piece by piece is begun again and read whole. Raises
    PlannerError.
    """
    for whole in (False, True):
        with ExitStack() as open_files:
            sink = open_files.enter_context(quarantine_file(wanted.quarantine)) if wanted.quarantine else None
            loading = Loading(wanted, sink, whole=whole)
            try:
                use(loading)
            except OutOfReach as far:
                note(f"{far}, which takes memory for all of it")
                continue
        break
    loading.tell(note)
    return loading


def load_whole(wanted: Wanted, note: Note) -> Trace:
    """The shaped requests as one trace, to be played. Raises PlannerError, also for one that cannot be."""
    pieces: list[Trace] = []

    def take(loading: Loading) -> None:
        pieces[:] = loading.pieces()

    loading = load(wanted, take, note)
    trace = concatenate(pieces, loading.header())
    check_playable(trace)
    return trace
