"""What an experiment found: a value with three faces, JSON, Markdown and (in ``page.py``) HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

from probe_engine.experiments.figure import Figure, short

Cell = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that the literature says, beside what was found here.

    literature: its figure, as it gives it; source: where. ours: None where it could not be measured. why: what makes
    ours differ, or what it shows.
    """

    what: str
    literature: str
    source: str
    ours: float | None
    unit: str
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """One run of one experiment.

    setup: what it ran on, name by name. rows: one per variant, all with the same keys (units in the keys). figures:
    the plots. notes: what the reader must know to trust it. holds: whether what the experiment is about was seen;
    None where it judges nothing.
    """

    name: str
    title: str
    question: str
    setup: Mapping[str, Cell]
    rows: Sequence[Mapping[str, Cell]]
    figures: Sequence[Figure]
    claims: Sequence[Claim] = ()
    notes: Sequence[str] = ()
    holds: bool | None = None
    answer: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object; numbers that are none become null."""
        found = _plain(asdict(self))
        found["schema"] = "loadline-experiment/1"
        return dict(found)

    def to_markdown(self) -> str:
        """The report as Markdown, without its plots."""
        lines = [f"# {self.title}", "", self.question, ""]
        if self.answer:
            lines += [f"**{self.answer}**", ""]
        lines += table(self.rows)
        if self.claims:
            lines += ["", "## Beside the literature", ""]
            lines += table([claim_row(claim) for claim in self.claims])
            lines += ["", *(f"- {claim.what}: {claim.why}" for claim in self.claims)]
        if self.notes:
            lines += ["", "## Read with care", "", *(f"- {note}" for note in self.notes)]
        lines += ["", "## Set-up", "", *(f"- {name}: {text(value)}" for name, value in self.setup.items()), ""]
        return "\n".join(lines)


def claim_row(claim: Claim) -> dict[str, Cell]:
    """A claim as a row of a table."""
    ours = "not measured" if claim.ours is None else f"{short(claim.ours)} {claim.unit}".strip()
    return {"what": claim.what, "literature": claim.literature, "here": ours, "source": claim.source}


def table(rows: Sequence[Mapping[str, Cell]]) -> list[str]:
    """``rows`` as the lines of a Markdown table."""
    if not rows:
        return []
    names = list(rows[0])
    body = ["| " + " | ".join(text(row.get(name)).replace("|", "\\|") for name in names) + " |" for row in rows]
    return ["| " + " | ".join(names) + " |", "|" + "---|" * len(names), *body]


def text(value: Cell) -> str:
    """A cell as one reads it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return short(value) if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
