"""What may follow a binary operator: ``bool``, ``on``, ``ignoring``, ``group_left``, ``group_right``, ``fill``."""

from collector.promql.ast import Cardinality, Matching
from collector.promql.reader import Reader
from collector.promql.spans import number_of


def read_modifiers(reader: Reader) -> tuple[bool, Matching]:
    """Whether ``bool`` was there, and the matching."""
    returns_bool = reader.sees_word("bool") and bool(reader.take())
    on = False
    labels: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    cardinality: Cardinality = "one-to-one"
    if reader.sees_word("on", "ignoring"):
        on = reader.take().key == "on"
        labels = reader.labels()
        if reader.sees_word("group_left", "group_right"):
            cardinality = "many-to-one" if reader.take().key == "group_left" else "one-to-many"
            include = reader.labels() if reader.sees("(") else ()
    fills = _read_fills(reader)
    return returns_bool, Matching(cardinality, on, labels, include, fills.get("left"), fills.get("right"))


def _read_fills(reader: Reader) -> dict[str, float]:
    fills: dict[str, float] = {}
    while reader.sees_word("fill", "fill_left", "fill_right") and reader.ahead.text == "(":
        token = reader.take()
        sides = ("left", "right") if token.key == "fill" else (token.key.removeprefix("fill_"),)
        if any(side in fills for side in sides):
            reader.refuse(token.start, f"unexpected {token} in fill modifiers, each side may be filled once")
        reader.take()
        sign = -1 if reader.sees("-") else 1
        if reader.sees("+", "-"):
            reader.take()
        if reader.now.kind not in ("number", "duration"):
            reader.unexpected("fill modifier", "number")
        value = sign * number_of(reader.take())
        reader.need(")", "fill modifier", '")"')
        fills |= dict.fromkeys(sides, value)
    return fills
