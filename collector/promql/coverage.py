"""A page that says what of PromQL is understood, made from the tables that the parser and the evaluator use."""

from collector.promql.calls import CALLS
from collector.promql.functions import ALIASES, FUNCTIONS, UNBOUNDED, Signature
from collector.promql.kinds import DOCUMENTED
from collector.promql.precedence import PRECEDENCE
from collector.promql.tokens import AGGREGATORS

_NATIVE = frozenset({"histogram_avg", "histogram_count", "histogram_stddev", "histogram_stdvar", "histogram_sum"})

_HEAD = """# PromQL, what is covered

Made by `collector.promql.coverage.page()` from the tables that the parser and the evaluator use. The language is that
of Prometheus 3 with its experimental functions and modifiers switched on.
"""
_REST = """
## Selectors and modifiers

`=` `!=` `=~` `!~`, UTF-8 names in quotes, `offset`, `@` with a time, `start()` or `end()`, subqueries,
`anchored`, `smoothed`, arithmetic on durations with `step()`, `range()`, `min_of`, `max_of`.

## Matching

`bool`, `on`, `ignoring`, `group_left`, `group_right`, `fill`, `fill_left`, `fill_right`.

## Left out

- Native histograms: none are kept, so the functions marked \\* find nothing, and `</` and `>/` are refused.
- Start timestamps of counters: none are kept, so `rate` sees a restart only by a fall.

## Switches of the engine

| switch | without it | with it |
|---|---|---|
| `left_open` (on) | ranges and lookback of Prometheus 2 | those of Prometheus 3 |
| `delayed_name_removal` (off) | metric names are dropped at every step | they are dropped at the end of the query |
"""


def page() -> str:
    """The page, in Markdown."""
    functions = [f"| `{_shown(name)}` | {_note(name)} |" for name in sorted(FUNCTIONS)]
    return "\n".join(
        [
            _HEAD,
            f"## Functions: {len(FUNCTIONS)}",
            "",
            "| function | gives |",
            "|---|---|",
            *functions,
            "",
            *[f"`{old}` is another name for `{new}`." for old, new in ALIASES.items()],
            "",
            f"## Aggregations: {len(AGGREGATORS)}",
            "",
            " ".join(f"`{name}`" for name in sorted(AGGREGATORS)) + ", each `by` or `without` labels.",
            "",
            f"## Operators: {len(PRECEDENCE)}",
            "",
            " ".join(f"`{op}`" for op in PRECEDENCE) + ", from loose to tight; `^` associates to the right.",
            _REST,
        ]
    )


def _shown(name: str) -> str:
    signature = FUNCTIONS[name]
    args = [DOCUMENTED[kind] for kind in signature.args]
    if signature.optional:
        args[-1] = f"[{args[-1]}{_repeats(signature)}]"
    return f"{name}({', '.join(args)})"


def _repeats(signature: Signature) -> str:
    return (
        ""
        if signature.optional == 1
        else ", ..."
        if signature.optional == UNBOUNDED
        else f", at most {signature.optional}"
    )


def _note(name: str) -> str:
    if name not in CALLS:
        return "refused"
    return DOCUMENTED[FUNCTIONS[name].result] + (" \\*" if name in _NATIVE else "")
