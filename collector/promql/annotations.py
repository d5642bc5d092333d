"""Remarks that go with an answer: warnings (the result may be wrong) and infos (it may not be what was meant)."""


class Annotations:
    """Remarks of one query, each told once, in the order in which they came up."""

    def __init__(self) -> None:
        self._warnings: dict[str, None] = {}
        self._infos: dict[str, None] = {}

    def warn(self, message: str) -> None:
        """Add a warning."""
        self._warnings[f"PromQL warning: {message}"] = None

    def inform(self, message: str) -> None:
        """Add an info."""
        self._infos[f"PromQL info: {message}"] = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings."""
        return tuple(self._warnings)

    @property
    def infos(self) -> tuple[str, ...]:
        """All infos."""
        return tuple(self._infos)
