"""Parts that the browser builds itself, in ``assets/07-parts.js``, from plain values.

Dash watches every element that it makes, and each of them is asked at every change of any: a table of six rows would be
forty of those, on each of a dozen panels.
"""

from typing import Any

NAMESPACE = "loadline_parts"


class Built:
    """The part ``kind`` (``Legend``) with the ``props`` that it is built from."""

    __slots__ = ("kind", "props")

    def __init__(self, kind: str, **props: Any) -> None:
        self.kind = kind
        self.props = props

    def plain(self) -> dict[str, Any]:
        """As Dash's renderer reads a component."""
        return {"type": self.kind, "namespace": NAMESPACE, "props": self.props}
