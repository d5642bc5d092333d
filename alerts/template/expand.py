"""Expands a parsed template over an alert's labels and value."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alerts.errors import TemplateError
from alerts.template.functions import FUNCTIONS, truth
from alerts.template.goformat import show
from alerts.template.syntax import Block, Call, Dot, Field, Literal, Part, Pipeline, Term, Variable, parse
from collector.model.labels import Labels
from collector.model.series import Sample

Query = Callable[[str], Sequence[Sample]]
"""Asks the source for an instant vector; ``query`` in templates."""

MAX_OUTPUT_CHARS = 64 * 1024

_SPECIAL = frozenset({"and", "or", "query", "args", "externalURL", "pathPrefix"})
_GIVEN = {
    "$labels": "Labels",
    "$externalLabels": "ExternalLabels",
    "$externalURL": "ExternalURL",
    "$value": "Value",
}


@dataclass(frozen=True, slots=True)
class AlertData:
    """What a template of an alert sees: ``.Labels``, ``.Value``, ``.ExternalURL``, ``.ExternalLabels``."""

    labels: Mapping[str, str]
    value: float
    external_url: str = ""
    external_labels: Mapping[str, str] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """Fields by the names that templates use."""
        return {
            "Labels": dict(self.labels),
            "ExternalLabels": dict(self.external_labels),
            "ExternalURL": self.external_url,
            "Value": self.value,
        }


@dataclass(frozen=True, slots=True)
class Item:
    """One series of a ``query`` in a template."""

    labels: Mapping[str, str]
    value: float

    def fields(self) -> dict[str, Any]:
        """Fields by the names that templates use."""
        return {"Labels": dict(self.labels), "Value": self.value}


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template."""

    parts: tuple[Part, ...]

    def expand(self, data: AlertData, query: Query | None = None) -> str:
        """The text for ``data``. ``query`` answers ``{{ query "..." }}``. Raises TemplateError."""
        if all(isinstance(part, str) for part in self.parts):
            return "".join(part for part in self.parts if isinstance(part, str))
        try:
            return _Expansion(data, query).text(self.parts, data)
        except (AttributeError, TypeError, ArithmeticError, RecursionError) as error:
            raise TemplateError(f"a value is not of the kind that a function takes: {error}") from error


def parse_template(text: str) -> Template:
    """Parse a label's or annotation's text. Raises TemplateError."""
    return Template(parse(text, frozenset(FUNCTIONS) | _SPECIAL, frozenset(_GIVEN)))


class _Expansion:
    """One expansion: variables, and how much was written."""

    def __init__(self, data: AlertData, query: Query | None) -> None:
        self._data = data
        self._query = query
        self._variables = [(name, data.fields()[source]) for name, source in _GIVEN.items()] + [("$", data)]
        self._written = 0

    def text(self, parts: Iterable[Part], dot: Any) -> str:
        texts = []
        for part in parts:
            if isinstance(part, str):
                text = part
            elif isinstance(part, Block):
                text = self._block(part, dot)
            else:
                value = self._pipeline(part, dot)
                text = "" if part.variables else show(_plain(value))
            self._written += len(text)
            if self._written > MAX_OUTPUT_CHARS:
                raise TemplateError(f"the text grows beyond {MAX_OUTPUT_CHARS} characters")
            texts.append(text)
        return "".join(texts)

    def _block(self, block: Block, dot: Any) -> str:
        outside = len(self._variables)
        try:
            if block.keyword == "range":
                return self._range(block, dot)
            value = self._pipeline(block.pipeline, dot)
            if truth(value):
                return self.text(block.body, value if block.keyword == "with" else dot)
            return self.text(block.otherwise, dot)
        finally:
            del self._variables[outside:]

    def _range(self, block: Block, dot: Any) -> str:
        plain = Pipeline(block.pipeline.commands)
        value = self._pipeline(plain, dot)
        if isinstance(value, dict):
            items: list[tuple[Any, Any]] = sorted(value.items())
        elif isinstance(value, list | tuple):
            items = list(enumerate(value))
        elif value is None:
            items = []
        else:
            raise TemplateError(f"range cannot go over {show(value)}")
        if not items:
            return self.text(block.otherwise, dot)
        texts = []
        outside = len(self._variables)
        for key, item in items:
            names = block.pipeline.variables
            given = (item,) if len(names) == 1 else (key, item)
            self._variables.extend(zip(names, given, strict=False))
            texts.append(self.text(block.body, item))
            del self._variables[outside:]
        return "".join(texts)

    def _pipeline(self, pipeline: Pipeline, dot: Any) -> Any:
        value = self._command(pipeline.commands[0], dot, ())
        for command in pipeline.commands[1:]:
            value = self._command(command, dot, (value,))
        for name in pipeline.variables:
            if pipeline.declares:
                self._variables.append((name, value))
            else:
                self._set(name, value)
        return value

    def _command(self, terms: tuple[Term, ...], dot: Any, piped: tuple[Any, ...]) -> Any:
        first, rest = terms[0], terms[1:]
        if isinstance(first, Call):
            if first.name in ("and", "or"):
                return self._either(first.name, rest, dot, piped)
            return self._call(first.name, (*(self._term(term, dot) for term in rest), *piped))
        if rest or piped:
            raise TemplateError("a value that is no function was given arguments")
        return self._term(first, dot)

    def _either(self, name: str, terms: tuple[Term, ...], dot: Any, piped: tuple[Any, ...]) -> Any:
        """``and``, ``or``: the first value that decides, or the last."""
        value: Any = None
        for term in terms:
            value = self._term(term, dot)
            if truth(value) == (name == "or"):
                return value
        return piped[-1] if piped else value

    def _term(self, term: Term, dot: Any) -> Any:
        if isinstance(term, Literal):
            return term.value
        if isinstance(term, Dot):
            return dot
        if isinstance(term, Variable):
            return next(value for name, value in reversed(self._variables) if name == term.name)
        if isinstance(term, Field):
            return _field(self._term(term.base, dot), term.name)
        if isinstance(term, Call):
            return self._call(term.name, ())
        return self._pipeline(term, dot)

    def _call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if name == "query":
            return self._ask(*arguments)
        if name == "args":
            return {f"arg{position}": value for position, value in enumerate(arguments)}
        if name == "externalURL":
            return self._data.external_url
        if name == "pathPrefix":
            return ""
        try:
            return FUNCTIONS[name](*arguments)
        except TypeError as error:
            shown = ", ".join(show(_plain(value)) for value in arguments)
            raise TemplateError(f"{name} cannot take ({shown})") from error

    def _ask(self, expr: str) -> list[Item]:
        if self._query is None:
            raise TemplateError("query: there is no source to ask")
        return [Item(dict(sample.labels), sample.value) for sample in self._query(expr)]

    def _set(self, name: str, value: Any) -> None:
        for position in range(len(self._variables) - 1, -1, -1):
            if self._variables[position][0] == name:
                self._variables[position] = (name, value)
                return


def _field(value: Any, name: str) -> Any:
    if isinstance(value, AlertData | Item):
        fields = value.fields()
        if name not in fields:
            raise TemplateError(f"there is no field .{name}; there are {', '.join('.' + key for key in fields)}")
        return fields[name]
    if isinstance(value, dict):
        return value.get(name, "")
    raise TemplateError(f"{show(value)} has no field .{name}")


def _plain(value: Any) -> Any:
    """Our own values as Go would show them."""
    if isinstance(value, AlertData | Item):
        return list(value.fields().values())
    return value


def labels_as_mapping(labels: Labels) -> dict[str, str]:
    """A label set as templates see it, without the metric name."""
    return {name: value for name, value in labels if name != "__name__"}
