"""Whether a source holds a signal: present, not exposed by its engines, or exposed but switched off."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Present:
    """The source holds the signal.

    ``dialects`` and ``metrics`` that carry it; ``definition`` is the tag of the first (None where there is only one
    way to define it); ``lacking`` are (dialect, reason) pairs of engines in the source that are not asked for it.
    ``mean_only`` where a histogram signal comes as a sum and a count alone: it has a mean, but no quantiles.
    """

    dialects: tuple[str, ...]
    metrics: tuple[str, ...]
    definition: str | None = None
    lacking: tuple[tuple[str, str], ...] = ()
    mean_only: bool = False

    def __str__(self) -> str:
        return f"present as {', '.join(self.metrics)}" + (" (its mean alone)" if self.mean_only else "")


@dataclass(frozen=True, slots=True)
class NotExposed:
    """No engine in the source exposes the signal; ``reason`` is a sentence for people."""

    reason: str

    def __str__(self) -> str:
        return f"not exposed: {self.reason}"


@dataclass(frozen=True, slots=True)
class SwitchedOff:
    """An engine can expose the signal but does not do so now; ``flag`` switches it on."""

    flag: str
    reason: str

    def __str__(self) -> str:
        return f"switched off: {self.reason}"


Status = Present | NotExposed | SwitchedOff
