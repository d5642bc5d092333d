"""Values as trace files write them: wall-clock times, seconds and milliseconds, token counts, hashes.

Each gives an exact number or raises BadRow with its reason. Times are exact to the nanosecond: decimal text is taken
as decimal, and a JSON float stands for the shortest decimal that it prints as, which is what its writer wrote.
"""

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from planner.readers.lines import BadRow
from planner.traces.trace import MAX_TOKENS

MAX_NS = 2**62
MAX_HASH = 2**64 - 1

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?\s*(Z|[+-]\d\d:?\d\d)?\s*", re.ASCII)
_COUNT = re.compile(r"\s*(-?\d{1,30})(?:\.(\d*))?\s*", re.ASCII)
_EPOCH_DAY = date(1970, 1, 1).toordinal()


def parse_time_ns(text: str) -> tuple[int, str, int]:
    """Wall-clock text to (ns since the Unix epoch, zone text or "", digits of the fraction).

    A time without a zone is taken as it stands. Raises BadRow.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise BadRow("empty_timestamp" if not text.strip() else "bad_timestamp")
    day_text, hour, minute, second, fraction, zone = match.groups()
    try:
        day = date.fromisoformat(day_text).toordinal() - _EPOCH_DAY
    except ValueError:
        raise BadRow("bad_timestamp") from None
    if int(hour) > 23 or int(minute) > 59 or int(second) > 59:
        raise BadRow("bad_timestamp")
    seconds = ((day * 24 + int(hour)) * 60 + int(minute)) * 60 + int(second)
    if zone and zone != "Z":
        shift = int(zone[1:3]) * 3600 + int(zone[-2:]) * 60
        seconds += shift if zone[0] == "-" else -shift
    digits = fraction or ""
    time_ns = seconds * 1_000_000_000 + int(digits.ljust(9, "0") or 0)
    if abs(time_ns) >= MAX_NS:
        raise BadRow("bad_timestamp")
    return time_ns, zone or "", len(digits)


def time_ns(value: object, unit_ns: int, *, negative: bool = False) -> int:
    """A number, or text of one, of units of ``unit_ns`` as ns. Raises BadRow."""
    if value is None:
        raise BadRow("missing_timestamp")
    if isinstance(value, int) and not isinstance(value, bool):
        found = value * unit_ns
    elif isinstance(value, float | str):
        try:
            found = int((Decimal(repr(value) if isinstance(value, float) else value) * unit_ns).to_integral_value())
        except (InvalidOperation, ValueError, OverflowError):
            raise BadRow("empty_timestamp" if value == "" else "bad_timestamp") from None
    else:
        raise BadRow("bad_timestamp")
    if found < 0 and not negative:
        raise BadRow("negative_timestamp")
    if abs(found) >= MAX_NS:
        raise BadRow("bad_timestamp")
    return found


def parse_tokens(text: str) -> int:
    """Token count out of text; an integral float is an integer, anything else raises BadRow."""
    match = _COUNT.fullmatch(text)
    if match is None:
        raise BadRow("empty_tokens" if not text.strip() else "non_numeric_tokens")
    if match[2] and match[2].strip("0"):
        raise BadRow("fractional_tokens")
    value = int(match[1])
    if value < 0:
        raise BadRow("negative_tokens")
    if value > MAX_TOKENS:
        raise BadRow("too_many_tokens")
    return value


def tokens(row: Mapping[str, Any], key: str) -> int:
    """Token count of a JSON object. Raises BadRow where it is absent or no count."""
    found = tokens_or_none(row, key)
    if found is None:
        raise BadRow(f"missing_{key}")
    return found


def tokens_or_none(row: Mapping[str, Any], key: str) -> int | None:
    """Token count of a JSON object, None where it is absent. Raises BadRow where it is no count."""
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadRow(f"bad_{key}")
    if value < 0:
        raise BadRow(f"negative_{key}")
    if value > MAX_TOKENS:
        raise BadRow(f"too_large_{key}")
    return value


def hashes(value: object, tokens_in: int, block_tokens: int) -> list[int]:
    """Block hashes of a prompt, 64 bits each, none twice and no more than it has blocks. Raises BadRow."""
    if not isinstance(value, list):
        raise BadRow("bad_hash_ids")
    for one in value:
        if not isinstance(one, int) or isinstance(one, bool) or not 0 <= one <= MAX_HASH:
            raise BadRow("bad_hash_ids")
    if len(set(value)) < len(value):
        raise BadRow("repeated_hash_id")
    if tokens_in and len(value) > -(-tokens_in // block_tokens):
        raise BadRow("too_many_hash_ids")
    return value


def text_or_none(value: object) -> str | None:
    """Text, or a number as text; None where it is absent, empty or something else."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def number_or_none(value: object, factor: float = 1.0) -> float | None:
    """A finite number that is not negative, times ``factor``; None otherwise: what a source measured is no input."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value) * factor
    except OverflowError:
        return None
    return found if 0 <= found < float("inf") else None
