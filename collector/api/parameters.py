"""Parameters of a request: from the address and, of a POST, from its form; times, durations, selectors, limits."""

import math
from collections.abc import Sequence
from urllib.parse import parse_qsl

from starlette.requests import Request

from collector.api.errors import ApiError, bad_parameter
from collector.model.errors import QueryError
from collector.model.matchers import Matcher
from collector.model.moments import parse_moment_s
from collector.promql import VectorSelector, parse
from collector.promql.durations import parse_duration_ms

FORM = "application/x-www-form-urlencoded"
MAX_FORM_BYTES = 1 << 20
MAX_FIELDS = 1000
EARLIEST_MS, LATEST_MS = -(1 << 53), 1 << 53


class Parameters:
    """What was asked; each reader raises ApiError naming the parameter."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self.pairs = pairs

    def all(self, name: str) -> list[str]:
        """Every value of a repeated parameter."""
        return [value for key, value in self.pairs if key == name]

    def text(self, name: str) -> str:
        """The first value, or the empty string."""
        return next((value for key, value in self.pairs if key == name), "")

    def time_ms(self, name: str, default_ms: int | None = None) -> int:
        """Unix milliseconds of a moment given in Unix seconds or RFC 3339; required where there is no default."""
        text = self.text(name)
        if not text and default_ms is not None:
            return default_ms
        try:
            seconds = parse_moment_s(text)
        except ValueError as error:
            raise bad_parameter(name, f'cannot parse "{text}" to a valid timestamp') from error
        if not EARLIEST_MS < seconds * 1000 < LATEST_MS:
            raise bad_parameter(name, f'"{text}" is beyond what is kept')
        return round(seconds * 1000)

    def step_ms(self, name: str) -> int:
        """Milliseconds of a duration given in seconds or as ``1m30s``; longer than nothing."""
        text = self.text(name)
        duration_ms = _duration_ms(text)
        if duration_ms is None:
            raise bad_parameter(name, f'cannot parse "{text}" to a valid duration')
        if duration_ms <= 0:
            reason = "zero or negative query resolution step widths are not accepted. Try a positive integer"
            raise bad_parameter(name, reason)
        return duration_ms

    def count(self, name: str, default: int, most: int | None = None) -> int:
        """A number of things, 0 or more."""
        text = self.text(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            raise bad_parameter(name, f'"{text}" is not a number of things')
        if most is not None and int(text) > most:
            raise bad_parameter(name, f"at most {most} are answered")
        return int(text)

    def whole(self, name: str, default: int) -> int:
        """A whole number of any sign."""
        text = self.text(name)
        if not text:
            return default
        if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) < 16):
            raise bad_parameter(name, f"{name} must be a number")
        return int(text)

    def number(self, name: str) -> float | None:
        """A finite number, or None where it was not given."""
        text = self.text(name)
        if not text:
            return None
        try:
            number = float(text)
        except ValueError as error:
            raise bad_parameter(name, f'"{text}" is not a number') from error
        if not math.isfinite(number):
            raise bad_parameter(name, f'"{text}" is not a finite number')
        return number

    def hexadecimal(self, name: str) -> str | None:
        """An id in hexadecimal digits, or None where it was not given."""
        text = self.text(name)
        try:
            bytes.fromhex(text)
        except ValueError as error:
            raise bad_parameter(name, f'"{text}" is not hexadecimal') from error
        return text or None

    def time_ns(self, name: str) -> int | None:
        """Unix nanoseconds of a moment, or None where it was not given."""
        return self.time_ms(name) * 1_000_000 if self.text(name) else None

    def attributes(self, known: Sequence[str]) -> dict[str, str]:
        """The ``attr.KEY=VALUE`` filters; ApiError for any other parameter that is not ``known``."""
        found = {}
        for name, value in self.pairs:
            if name.startswith("attr."):
                found[name.removeprefix("attr.")] = value
            elif name not in known:
                raise ApiError(400, "bad_data", f'no filter "{name}"; filters are {", ".join(known)} and attr.KEY')
        return found

    def selectors(self, name: str = "match[]") -> list[tuple[Matcher, ...]]:
        """Matchers of each series selector."""
        return [_matchers(name, text) for text in self.all(name)]


async def read_parameters(request: Request) -> Parameters:
    """Parameters of the address and, of a POST, of its form."""
    pairs = list(request.query_params.multi_items())
    if request.method == "POST":
        content_type = request.headers.get("content-type", FORM).split(";")[0].strip()
        if content_type != FORM:
            raise ApiError(415, "bad_data", f'content type "{content_type}"; a query is posted as {FORM}')
        body = await read_body(request, MAX_FORM_BYTES)
        try:
            pairs += parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
        except ValueError as error:
            raise ApiError(400, "bad_data", f"the form cannot be read: {error}") from error
    return Parameters(pairs)


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The body; ApiError 413 once it is longer than the limit."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit_bytes:
            raise ApiError(413, "bad_data", f"the body is longer than {limit_bytes} bytes")
    return bytes(body)


def _duration_ms(text: str) -> int | None:
    try:
        seconds = float(text)
    except ValueError:
        try:
            return parse_duration_ms(text)
        except QueryError:
            return None
    return round(seconds * 1000) if abs(seconds * 1000) < LATEST_MS else None


def _matchers(name: str, text: str) -> tuple[Matcher, ...]:
    try:
        selector = parse(text)
    except QueryError as error:
        raise bad_parameter(name, str(error)) from error
    if not isinstance(selector, VectorSelector) or selector.offset_ms or selector.at is not None:
        raise bad_parameter(name, f'"{text}" is not a series selector')
    return selector.matchers
