"""A composed text that remembers its sentence, so that another language can put the same parts into its own."""

from collections.abc import Mapping, Sequence


class Said(str):
    """English for whoever reads it as a ``str``; ``template`` and ``parts`` are what it was made of.

    Adding texts keeps what each was made of; an f-string does not.
    """

    template: str
    parts: Mapping[str, object]

    def __new__(cls, template: str, parts: Mapping[str, object]) -> "Said":
        """Raises KeyError where the template names a part that is not there."""
        made = super().__new__(cls, template.format_map(parts))
        made.template, made.parts = template, dict(parts)
        return made

    def __getnewargs__(self) -> tuple[str, Mapping[str, object]]:  # type: ignore[override]
        return self.template, self.parts

    def __add__(self, other: str) -> "Said":
        return Said("{head}{tail}", {"head": self, "tail": other})

    def __radd__(self, other: str) -> "Said":
        return Said("{head}{tail}", {"head": other, "tail": self})


def joined(items: Sequence[str]) -> str:
    """``items`` with what stands between them in a list; empty without any."""
    if not items:
        return ""
    head, *rest = items
    return Said("{head}, {tail}", {"head": head, "tail": joined(rest)}) if rest else head


def say(template: str, **parts: object) -> Said:
    """``template`` is a whole sentence or label in English with ``{names}`` for its ``parts``, which are numbers as
    they are to be read, names, or texts made likewise."""
    return Said(template, parts)


def counted(n: int, one: str, many: str, **parts: object) -> Said:
    """``one`` or ``many``, as English counts; both may name ``n``."""
    return Said(one if n == 1 else many, {"n": n, **parts})
