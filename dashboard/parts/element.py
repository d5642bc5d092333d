"""HTML elements as light values, for what a refresh makes by the hundred: Dash's check every attribute when made."""

from typing import Any

NAMESPACE = "dash_html_components"


class Element:
    """An element by its ``tag`` (``Tr``), written as Dash's own is; ``props`` are its children and attributes."""

    __slots__ = ("props", "tag")

    def __init__(self, tag: str, children: Any = None, **props: Any) -> None:
        self.tag = tag
        self.props = {"children": children, **props}

    def plain(self) -> dict[str, Any]:
        """As the browser's renderer reads it; the properties are a copy."""
        return {"type": self.tag, "namespace": NAMESPACE, "props": dict(self.props)}
