"""Functions that templates may call: Go's own and Prometheus's (template/template.go), same names, same answers."""

import html
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, quote_plus

from alerts.errors import TemplateError
from alerts.template.goformat import four_digits, printf, show

_SMALL = ("m", "u", "n", "p", "f", "a", "z", "y")
_LARGE = ("k", "M", "G", "T", "P", "E", "Z", "Y")
_LARGE_1024 = ("ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi")


def number_of(value: Any) -> float:
    """A template's value as a number; texts are read. Raises TemplateError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise TemplateError(f"{value!r} is not a number") from None
    raise TemplateError(f"{show(value)} cannot be read as a number")


def truth(value: Any) -> bool:
    """What ``if`` takes for true: all but false, 0, nil and what is empty."""
    return bool(value)


def humanize(value: Any) -> str:
    """Four digits with an SI prefix: ``12.35k``."""
    number = number_of(value)
    if number == 0 or not math.isfinite(number):
        return four_digits(number)
    return _large(number, _LARGE, 1000) if abs(number) >= 1 else _small(number)


def humanize_1024(value: Any) -> str:
    """Four digits with a binary prefix: ``1.5Gi``."""
    number = number_of(value)
    if abs(number) <= 1 or not math.isfinite(number):
        return four_digits(number)
    return _large(number, _LARGE_1024, 1024)


def humanize_duration(value: Any) -> str:
    """Seconds as ``1d 2h 3m 4s``, or with an SI prefix below one second."""
    number = number_of(value)
    if not math.isfinite(number):
        return four_digits(number)
    if number == 0:
        return four_digits(number) + "s"
    if abs(number) < 1:
        return _small(number) + "s"
    sign, number = ("-", -number) if number < 0 else ("", number)
    whole = int(number)
    days, hours, minutes, seconds = whole // 86400, whole // 3600 % 24, whole // 60 % 60, whole % 60
    if days:
        return f"{sign}{days}d {hours}h {minutes}m {seconds}s"
    if hours:
        return f"{sign}{hours}h {minutes}m {seconds}s"
    if minutes:
        return f"{sign}{minutes}m {seconds}s"
    return f"{sign}{four_digits(number)}s"


def humanize_percentage(value: Any) -> str:
    """A ratio as per cent: ``12.5%``."""
    return four_digits(number_of(value) * 100) + "%"


def humanize_timestamp(value: Any) -> str:
    """Unix seconds as ``2026-01-02 03:04:05 +0000 UTC``."""
    number = number_of(value)
    if not math.isfinite(number):
        return four_digits(number)
    nanoseconds = round(number * 1e9)
    try:
        moment = datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise TemplateError(f"{show(value)} is not a moment: {error}") from error
    fraction = f"{nanoseconds % 1_000_000_000:09d}".rstrip("0")
    return f"{moment:%Y-%m-%d %H:%M:%S}{'.' + fraction if fraction else ''} +0000 UTC"


def _large(number: float, prefixes: tuple[str, ...], step: int) -> str:
    prefix = ""
    for candidate in prefixes:
        if abs(number) < step:
            break
        prefix = candidate
        number /= step
    return four_digits(number) + prefix


def _small(number: float) -> str:
    prefix = ""
    for candidate in _SMALL:
        if abs(number) >= 1:
            break
        prefix = candidate
        number *= 1000
    return four_digits(number) + prefix


def _compare(name: str, left: Any, right: Any) -> bool:
    kinds = {bool: "bool", int: "int", float: "float", str: "string"}
    left_kind, right_kind = kinds.get(type(left)), kinds.get(type(right))
    if left_kind is None or right_kind is None:
        raise TemplateError(f"{name}: invalid type for comparison")
    if left_kind != right_kind:
        raise TemplateError(
            f"{name}: incompatible types for comparison ({left_kind} and {right_kind}); write 10.0 beside a value"
        )
    if name in ("eq", "ne"):
        return bool((left == right) == (name == "eq"))
    if left_kind == "bool":
        raise TemplateError(f"{name}: invalid type for comparison")
    return bool({"lt": left < right, "le": left <= right, "gt": left > right, "ge": left >= right}[name])


def _comparison(name: str) -> Callable[[Any, Any], bool]:
    return lambda left, right: _compare(name, left, right)


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise TemplateError("eq: missing argument for comparison")
    return any(_compare("eq", first, other) for other in others)


def _match(pattern: str, text: str) -> bool:
    return _regex(pattern).search(text) is not None


def _replace(pattern: str, replacement: str, text: str) -> str:
    """Go's ``ReplaceAllString``: ``$1``, ``${name}``; an unknown group is empty."""

    def one(found: re.Match[str]) -> str:
        def group(reference: re.Match[str]) -> str:
            if reference.group() == "$$":
                return "$"
            name = reference[1] or reference[2]
            try:
                return found[int(name) if name.isdecimal() else name] or ""
            except (IndexError, KeyError):
                return ""

        return re.sub(r"\$\$|\$\{(\w+)\}|\$(\w+)", group, replacement)

    return _regex(pattern).sub(one, text)


def _regex(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise TemplateError(f"regular expression {pattern!r} does not compile: {error}") from error


def _first(items: Any) -> Any:
    if not isinstance(items, list) or not items:
        raise TemplateError("first() called on vector with no elements")
    return items[0]


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, "")
        elif isinstance(value, list | str) and isinstance(key, int) and 0 <= key < len(value):
            value = ord(value[key]) if isinstance(value, str) else value[key]
        else:
            raise TemplateError(f"index: {show(value)} has no {show(key)}")
    return value


def _length(value: Any) -> int:
    if not isinstance(value, str | list | dict):
        raise TemplateError(f"len of {show(value)}")
    return len(value.encode()) if isinstance(value, str) else len(value)


def _printed(*values: Any) -> str:
    """Go's ``Sprint``: a space between two values neither of which is a text."""
    text = ""
    for position, value in enumerate(values):
        if position and not isinstance(value, str) and not isinstance(values[position - 1], str):
            text += " "
        text += show(value)
    return text


def _strip_port(address: str) -> str:
    found = re.fullmatch(r"\[?([^\[\]]*?)\]?:(\w*)", address)
    return found[1] if found else address


def _strip_domain(address: str) -> str:
    host, colon, port = address.partition(":")
    if re.fullmatch(r"\d+(\.\d+){3}", host):
        return address
    return host.split(".")[0] + colon + port


def _title(text: str) -> str:
    return re.sub(r"(?<![\w'])\w", lambda found: found.group().upper(), text)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "humanize": humanize,
    "humanize1024": humanize_1024,
    "humanizeDuration": humanize_duration,
    "humanizePercentage": humanize_percentage,
    "humanizeTimestamp": humanize_timestamp,
    "title": _title,
    "toUpper": lambda text: text.upper(),
    "toLower": lambda text: text.lower(),
    "match": _match,
    "reReplaceAll": _replace,
    "stripPort": _strip_port,
    "stripDomain": _strip_domain,
    "first": _first,
    "label": lambda name, item: item.labels.get(name, ""),
    "value": lambda item: item.value,
    "sortByLabel": lambda name, items: sorted(items, key=lambda item: item.labels.get(name, "")),
    "graphLink": lambda expr: f"/graph?g0.expr={quote_plus(expr)}&g0.tab=0",
    "tableLink": lambda expr: f"/graph?g0.expr={quote_plus(expr)}&g0.tab=1",
    "safeHtml": lambda text: text,
    "print": _printed,
    "println": lambda *values: " ".join(show(value) for value in values) + "\n",
    "printf": printf,
    "html": lambda *values: html.escape(_printed(*values)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
    "urlquery": lambda *values: quote(_printed(*values), safe="").replace("%20", "+"),
    "len": _length,
    "index": _index,
    "not": lambda value: not truth(value),
    "eq": _equal,
    **{name: _comparison(name) for name in ("ne", "lt", "le", "gt", "ge")},
}
