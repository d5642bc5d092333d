"""Vector selectors in a query: ``name{label="value", "quoted name"=~"regex", "metric name"}``."""

from collector.model.errors import QueryError
from collector.model.labels import METRIC_NAME
from collector.model.matchers import Matcher, MatchOp
from collector.promql.ast import VectorSelector
from collector.promql.reader import Reader

_MATCH_OPS: dict[str, MatchOp] = {"=": "=", "!=": "!=", "=~": "=~", "!~": "!~"}
_CONTEXT = "label matching"


def read_selector(reader: Reader) -> VectorSelector:
    """A selector; whether it selects anything less than everything is for ``checks.selectors`` to say."""
    start = reader.now.start
    name = reader.take().text if reader.now.kind == "word" else ""
    matchers = _matchers(reader) if reader.sees("{") else []
    for matcher in matchers if name else ():
        if matcher.name == METRIC_NAME:
            reader.refuse(start, f'metric name must not be set twice: "{name}" or "{matcher.value}"')
    if name:
        matchers.insert(0, Matcher(METRIC_NAME, "=", name))
    named = [matcher.value for matcher in matchers if matcher.name == METRIC_NAME and matcher.op == "="]
    if len(named) > 1:
        reader.refuse(start, f'metric name must not be set twice: "{named[0]}" or "{named[1]}"')
    matchers.sort(key=lambda one: not (one.name == METRIC_NAME and one.op == "="))
    return VectorSelector(tuple(matchers), position=start)


def _matchers(reader: Reader) -> list[Matcher]:
    reader.take()
    found: list[Matcher] = []
    while not reader.sees("}"):
        found.append(_matcher(reader))
        if not reader.skip(",") and not reader.sees("}"):
            reader.unexpected(_CONTEXT, '"," or "}"')
    reader.take()
    return found


def _matcher(reader: Reader) -> Matcher:
    token = reader.now
    quoted = token.kind == "string"
    if quoted:
        name = reader.string()
    elif token.kind == "word" and ":" not in token.text:
        name = reader.take().text
    else:
        reader.unexpected(_CONTEXT, 'identifier or "}"')
    op = _MATCH_OPS.get(reader.now.text) if reader.now.kind == "symbol" else None
    if op is None:
        if not quoted:
            reader.unexpected(_CONTEXT, "label matching operator")
        return Matcher(METRIC_NAME, "=", name)
    reader.take()
    if reader.now.kind != "string":
        reader.unexpected(_CONTEXT, "string")
    try:
        return Matcher(name, op, reader.string())
    except QueryError as error:
        reader.refuse(token.start, f"error parsing regexp: {error}")
