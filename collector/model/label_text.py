"""Label sets as metrics pages write them: ``{a="1","quoted name"="2"}``, with escapes."""

import re

from collector.model.labels import METRIC_NAME, Labels

QUOTED = rb'"(?:[^"\\]++|\\.)*+"'
BRACES = rb'\{((?:[^"}]++|' + QUOTED + rb")*+)\}"

_LABEL = re.compile(
    rb"[ \t]*(?:([a-zA-Z_][a-zA-Z0-9_]*+)|(" + QUOTED + rb"))[ \t]*(?:=[ \t]*(" + QUOTED + rb")[ \t]*)?(,|$)",
    re.DOTALL,
)
ESCAPE = re.compile(r'\\([\\n"])')


def parse_labels(name: bytes | None, inner: bytes | None) -> Labels:
    """The labels of a series: its name before the braces, if any, and what is in them. Raises ValueError."""
    pairs = read_pairs(inner or b"", {METRIC_NAME: name.decode()} if name else {})
    if not pairs.get(METRIC_NAME):
        raise ValueError("the series has no metric name")
    return tuple(sorted(pairs.items()))


def read_pairs(text: bytes, pairs: dict[str, str]) -> dict[str, str]:
    """``pairs`` with what stands between braces; a quoted name alone is the metric's. Raises ValueError."""
    text, position = text.rstrip(b" \t"), 0
    while position < len(text):
        match = _LABEL.match(text, position)
        if match is None:
            raise ValueError(f"label expected at {text[position:].decode(errors='replace')!r}")
        if match[3] is not None:
            key = unquote(match[2]) if match[2] is not None else match[1].decode()
            value = unquote(match[3])
        elif match[2] is not None:
            key, value = METRIC_NAME, unquote(match[2])
        else:
            raise ValueError(f"label {match[1].decode()!r} has no value")
        if key in pairs:
            raise ValueError(f"label {key!r} is given twice")
        pairs[key] = value
        position = match.end()
    return pairs


def unquote(raw: bytes) -> str:
    """The text of a quoted one. Raises ValueError where it is not UTF-8."""
    text = to_text(raw[1:-1])
    return ESCAPE.sub(unescaped, text) if "\\" in text else text


def to_text(raw: bytes) -> str:
    """UTF-8. Raises ValueError."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError("names and label values are UTF-8") from error


def unescaped(match: re.Match[str]) -> str:
    """What an escape stands for."""
    return "\n" if match[1] == "n" else match[1]
