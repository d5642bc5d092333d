"""Request traces of JSON objects, one or several requests in each."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from planner.readers.lines import BadRow
from planner.readers.row import CHUNK_ROWS, Chunk, Gather, Row
from planner.readers.source import Source

Object = dict[str, Any]
CHUNK_BYTES = 2**24


def object_chunks(
    source: Source, parse: Callable[[Object, Source], Row], header: Callable[[Object, Source], bool] | None = None
) -> Iterator[Chunk]:
    """Files with one request in an object; ``parse`` makes a row of it or raises BadRow."""
    return group_chunks(source, lambda found, source: (parse(found, source),), header)


def group_chunks(
    source: Source,
    parse: Callable[[Object, Source], Iterable[Row | BadRow]],
    header: Callable[[Object, Source], bool] | None = None,
) -> Iterator[Chunk]:
    """Files with several requests in an object.

    ``parse`` gives each of them as a row or as the BadRow that says what is wrong with it, or raises BadRow for all.
    An object is accepted when one of its requests can be used. ``header`` takes the first object in, if it is one.
    """
    ledger, gather, held = source.ledger, Gather(), 0
    for line, offset, raw in source.records():
        accepted, bad_parts = False, []
        try:
            found = _object(raw)
            if header is not None and ledger.accepted == 0 and header(found, source):
                ledger.header += 1
                continue
            for row in parse(found, source):
                if isinstance(row, BadRow):
                    bad_parts.append(str(row))
                    continue
                row.content = row.content or hash(raw)
                gather.add(line, row)
                accepted = True
            if not accepted and not bad_parts:
                raise BadRow("no_request")
        except BadRow as bad:
            bad_parts.append(str(bad))
        for number, reason in enumerate(bad_parts):
            ledger.set_aside(line, offset, reason, raw, part=accepted or number > 0)
        ledger.accepted += accepted
        held += len(raw)
        if len(gather) >= CHUNK_ROWS or held >= CHUNK_BYTES:
            yield from gather.chunks()
            held = 0
    yield from gather.chunks()


def _object(raw: bytes) -> Object:
    """The JSON object of a line. Raises BadRow."""
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise BadRow("bad_json") from None
    if not isinstance(found, dict):
        raise BadRow("not_an_object")
    return found


def rest_of(found: Object, *used: str) -> str | None:
    """What of an object has no column of its own, as JSON; None when nothing is left."""
    rest = {key: value for key, value in found.items() if key not in used}
    return orjson.dumps(rest).decode() if rest else None
