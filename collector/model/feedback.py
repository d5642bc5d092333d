"""What a user, a judge or a caller said of one answer, and its JSON.

Validation is here, so that a client and the API read the same: ``feedback_from_json`` raises ValueError with the field,
what was found and what is allowed.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

RATINGS = ("up", "down", "1", "2", "3", "4", "5")
"""Thumbs, or one to five stars."""

MAX_LABELS = 10
MAX_LABEL_CHARACTERS = 128
MAX_COMMENT_CHARACTERS = 2000
LATEST_S = 4e9
"""Moments are given in seconds; milliseconds would be far beyond."""

KEYS = (
    "request_id",
    "trace_id",
    "rating",
    "hallucination_score",
    "retried",
    "truncated",
    "model",
    "tenant",
    "labels",
    "comment",
    "time",
)

_ID = re.compile(r"[\x21-\x7e]{1,200}")
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Feedback:
    """One opinion of one answer. What was not said is None, or empty.

    ``request_id``           the id that the engine answered with (``chatcmpl-…``), or the caller's ``x-request-id``
    ``rating``               one of ``RATINGS``
    ``hallucination_score``  0 (grounded) to 1 (made up), by whatever judge the caller trusts
    ``retried``              the user asked again for the same thing
    ``truncated``            the answer ended before it was complete
    ``labels``               the caller's own, such as the version of a prompt
    ``time_s``               Unix seconds; None stands for the moment of arrival
    """

    request_id: str = ""
    trace_id: str = ""
    rating: str | None = None
    hallucination_score: float | None = None
    retried: bool | None = None
    truncated: bool | None = None
    model: str = ""
    tenant: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    comment: str = ""
    time_s: float | None = None


def feedback_to_json(feedback: Feedback) -> dict[str, Any]:
    """One opinion as a JSON-ready object, without what was not said."""
    given = {
        "request_id": feedback.request_id,
        "trace_id": feedback.trace_id,
        "rating": feedback.rating,
        "hallucination_score": feedback.hallucination_score,
        "retried": feedback.retried,
        "truncated": feedback.truncated,
        "model": feedback.model,
        "tenant": feedback.tenant,
        "labels": dict(feedback.labels),
        "comment": feedback.comment,
        "time": feedback.time_s,
    }
    return {key: value for key, value in given.items() if value not in (None, "", {})}


def feedback_from_json(entry: object) -> Feedback:
    """Read one JSON object; ValueError says which field cannot be used and what is allowed."""
    if not isinstance(entry, dict):
        raise ValueError(f"{_shown(entry)} is no object; one has {', '.join(KEYS)}")
    for key in entry:
        if key not in KEYS:
            raise ValueError(f"{_shown(key)} is not understood; allowed: {', '.join(KEYS)}")
    given = {key: value for key, value in entry.items() if value is not None}
    read = Feedback(
        request_id=_text(given, "request_id", _ID, "1 to 200 printable characters"),
        trace_id=_text(given, "trace_id", _TRACE_ID, "32 hexadecimal digits in lower case"),
        rating=_rating(given),
        hallucination_score=_number(given, "hallucination_score", 1.0, "a number from 0 to 1"),
        retried=_boolean(given, "retried"),
        truncated=_boolean(given, "truncated"),
        model=_short(given, "model"),
        tenant=_short(given, "tenant"),
        labels=_labels(given),
        comment=_short(given, "comment", MAX_COMMENT_CHARACTERS),
        time_s=_number(given, "time", LATEST_S, "Unix seconds"),
    )
    if not read.request_id and not read.trace_id:
        raise ValueError("request_id and trace_id are absent; one of the two is needed")
    if (read.rating, read.hallucination_score, read.retried, read.truncated) == (None,) * 4 and not read.comment:
        raise ValueError("nothing is said; give rating, hallucination_score, retried, truncated or comment")
    return read


def _text(given: Mapping[str, Any], key: str, pattern: re.Pattern[str], allowed: str) -> str:
    value = given.get(key, "")
    if value != "" and not (isinstance(value, str) and pattern.fullmatch(value)):
        raise ValueError(f"{key} is {_shown(value)}; it is {allowed}")
    return str(value)


def _short(given: Mapping[str, Any], key: str, most: int = MAX_LABEL_CHARACTERS) -> str:
    value = given.get(key, "")
    if not isinstance(value, str) or len(value) > most or not _is_unicode(value):
        raise ValueError(f"{key} is {_shown(value)}; it is a text of at most {most} characters")
    return value


def _rating(given: Mapping[str, Any]) -> str | None:
    value = given.get("rating")
    if value is None:
        return None
    text = str(value) if isinstance(value, str) or type(value) is int else ""
    if text not in RATINGS:
        raise ValueError(f"rating is {_shown(value)}; it is up, down or 1 to 5")
    return text


def _number(given: Mapping[str, Any], key: str, most: float, allowed: str) -> float | None:
    value = given.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most or math.isnan(value):
        raise ValueError(f"{key} is {_shown(value)}; it is {allowed}")
    return float(value)


def _boolean(given: Mapping[str, Any], key: str) -> bool | None:
    value = given.get(key)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{key} is {_shown(value)}; it is true or false")
    return value


def _labels(given: Mapping[str, Any]) -> dict[str, str]:
    value = given.get("labels", {})
    if not isinstance(value, dict) or len(value) > MAX_LABELS:
        raise ValueError(f"labels is {_shown(value)}; it is an object of at most {MAX_LABELS} names and texts")
    for name in value:
        if not isinstance(name, str) or not _LABEL_NAME.fullmatch(name):
            raise ValueError(f"labels: name {_shown(name)}; one is of at most 64 letters, digits and _")
        _short(value, name)
    return dict(value)


def _is_unicode(text: str) -> bool:
    """Whether no half of a surrogate pair is in it, which cannot be stored."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
