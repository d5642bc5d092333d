"""Remarks that go with an answer: warnings (the result may be wrong) and infos (it may not be what was meant)."""

from collector.promql.tokens import place


class Annotations:
    """Remarks of one query, each told once, in the order in which they came up, with the place that they are about."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._warnings: dict[str, None] = {}
        self._infos: dict[str, None] = {}

    def warn(self, message: str, position: int) -> None:
        """Add a warning."""
        self._warnings[f"PromQL warning: {message} ({place(self._text, position)})"] = None

    def inform(self, message: str, position: int) -> None:
        """Add an info."""
        self._infos[f"PromQL info: {message} ({place(self._text, position)})"] = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings."""
        return tuple(self._warnings)

    @property
    def infos(self) -> tuple[str, ...]:
        """All infos."""
        return tuple(self._infos)
