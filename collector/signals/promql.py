"""PromQL text, put together from pieces; plain functions of strings.

The text keeps to what Prometheus 2.42, VictoriaMetrics and our own engine all read.
"""

import re
from collections.abc import Mapping, Sequence

from collector.signals.errors import SignalError

_MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*("(?:[^"\\\n]|\\.)*")\s*(?:,|$)')

DIALECT_LABEL = "dialect"
"""Label that says whose buckets these are."""

USE_LABEL = "loadline_use"
"""Label that keeps the answers of different metrics apart while they are merged; no answer carries it."""


def selector(metric: str, *matchers: str, window: str = "") -> str:
    """``metric{matchers}[window]``; empty matchers and an empty window are left out."""
    inside = ",".join(text for text in matchers if text)
    return metric + (f"{{{inside}}}" if inside else "") + (f"[{window}]" if window else "")


def translate_where(where: str, labels: Mapping[str, str]) -> str:
    """Matchers in canonical label names (``pool="llama",reason!="oom"``) in a dialect's own.

    ``labels`` maps canonical to own names. Raises SignalError where the text is not a list of matchers.
    """
    translated = []
    position = 0
    while position < len(where):
        found = _MATCHER.match(where, position)
        if found is None:
            raise SignalError(f'where is {where!r}; it must be matchers such as pool="llama",instance=~"a.*"')
        name, operator, value = found.groups()
        translated.append(f"{labels.get(name, name)}{operator}{value}")
        position = found.end()
    return ",".join(translated)


def grouped(operator: str, by: Sequence[str], inner: str) -> str:
    """``operator by (labels) (inner)``, or ``operator(inner)`` over everything."""
    return f"{operator} by ({', '.join(by)}) ({inner})" if by else f"{operator}({inner})"


def renamed(inner: str, canonical: str, own: str) -> str:
    """``inner`` with label ``own`` copied to ``canonical``."""
    return f'label_replace({inner}, "{canonical}", "$1", "{own}", "(.*)")'


def tagged(inner: str, name: str, value: str) -> str:
    """``inner`` with label ``name`` set to ``value``."""
    return f'label_replace({inner}, "{name}", "{value}", "", "")'


def scaled(inner: str, factor: float) -> str:
    """``inner`` times ``factor``; ``inner`` itself where the factor is 1."""
    return inner if factor == 1 else f"({number(factor)} * {inner})"


def either(parts: Sequence[str]) -> str:
    """Series of all ``parts``; where label sets agree, the first part's."""
    return " or ".join(parts)


def once(parts: Mapping[str, str], identity: str) -> str:
    """Series of all ``parts`` (by name), but what has the same ``identity`` as something in an earlier one left out.

    A series without identity is like no other part's: it is given its part's name for one.
    """
    told = [f'label_replace({text}, "{identity}", "{name}", "{identity}", "")' for name, text in parts.items()]
    return f" or on ({identity}) ".join(told)


def number(value: float) -> str:
    """A number as PromQL reads it back unchanged."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))


def le_matcher(bound: float) -> str:
    """Matcher for one bucket, however the exporter writes its bound (``1``, ``1.0``, ``1e+06``)."""
    spellings = sorted({number(bound), repr(float(bound)), f"{bound:g}"})
    if len(spellings) == 1:
        return f'le="{spellings[0]}"'
    return 'le=~"{}"'.format("|".join(re.sub(r"([.+])", r"\\\\\1", text) for text in spellings))
