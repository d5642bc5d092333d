"""What the Capacity page's address asks for: one change to one pool at one moment, checked, as a job's question."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dashboard.errors import ViewError
from dashboard.jobs import key_of
from dashboard.source import Source
from dashboard.view import View
from dashboard.words import say
from planner.room.whatif import Change
from planner.slo import Slo, first_fault

CHANGES = {
    "load": "load_factor", "replicas": "replicas", "prompt": "prompt_factor", "output": "output_factor",
    "cached": "cached_ratio", "blocks": "num_blocks", "batch": "max_num_batched_tokens", "seqs": "max_num_seqs",
}  # fmt: skip
"""Parameters of the address and the field of the planner's change that each sets; ``cached`` is in percent."""

PROMISES = {"ttft": ("ttft_p95_s", 1e-3), "itl": ("itl_p95_s", 1e-3), "e2e": ("e2e_p95_s", 1.0)}
"""Parameters that replace a limit of the promise: field, and seconds in one of the parameter's units."""

WHOLE = frozenset({"replicas", "blocks", "batch", "seqs"})


@dataclass(frozen=True, slots=True)
class WhatIfAsked:
    """One what-if. ``at_s`` is the moment whose telemetry counts (Unix); None where none was chosen yet."""

    pool: str
    slo: Slo
    change: Change
    at_s: int | None

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON; the same what-if has the same."""
        return {
            "pool": self.pool, "slo": self.slo.model_dump(), "change": self.change.model_dump(), "at_s": self.at_s
        }  # fmt: skip

    @property
    def key(self) -> str:
        """Names the job."""
        return key_of({"kind": "whatif", **self.plain})


def question(asked: WhatIfAsked, source: Source, token: str | None) -> dict[str, Any]:
    """What the job's process is given; ``token`` is the source's."""
    return {"kind": "whatif", "asked": asked.plain, "address": source.address, "token": token}


def read_whatif(view: View, pools: tuple[str, ...], slo: Slo) -> WhatIfAsked:
    """What the address asks of one of ``pools``. Raises ViewError with the parameter, its value and what is allowed."""
    own = view.own
    pool = own.get("of") or next(iter(view.pools), "") or (pools[0] if pools else "")
    changes = {field: _number(own, name) for name, field in CHANGES.items() if own.get(name)}
    if "cached_ratio" in changes:
        changes["cached_ratio"] /= 100
    promised = {field: _number(own, name) * unit for name, (field, unit) in PROMISES.items() if own.get(name)}
    at = own.get("at", "")
    if at and not (at.isdecimal() and len(at) <= 10):
        raise ViewError(say("at={value}: a moment is in Unix seconds, such as 1795210200", value=at[:20]))
    try:
        change = Change.model_validate(changes)
        return WhatIfAsked(pool, Slo.model_validate(slo.model_dump() | promised), change, int(at) if at else None)
    except ValidationError as error:
        raise ViewError(say("what if: {fault}", fault=first_fault(error))) from error


def _number(own: Mapping[str, str], name: str) -> float:
    text = own[name]
    try:
        value = float(text)
    except ValueError as error:
        raise ViewError(say("{given}: must be a number", given=f"{name}={text[:20]}")) from error
    if name in WHOLE and not value.is_integer():
        raise ViewError(say("{given}: must be a whole number", given=f"{name}={text[:20]}"))
    return value
