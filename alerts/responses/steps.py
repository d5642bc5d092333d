"""From a response and the gateway's state to the changes that carry it out and those that take them back. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from alerts.errors import ResponseError
from alerts.responses.catalogue import Entry
from alerts.responses.response import Step

ALL = "all"

State = Mapping[str, Any]
Replica = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """Replicas that it is about (none: the gateway as a whole), what to do, and what undoes it."""

    targets: tuple[str, ...]
    did: tuple[Step, ...]
    undo: tuple[Step, ...]


def plan(entry: Entry, state: State, target: str) -> Plan:
    """What ``entry`` comes to, given ``GET /admin/state``'s answer. Raises ResponseError where it cannot be done."""
    return PLANS[entry.action](entry, state, target)


def _limits(entry: Entry, state: State, target: str) -> Plan:
    before = state["limits"]
    wanted: dict[str, Any] = dict(entry.set) or _tighter(before, state["running_by_model"], entry.share)
    unknown = sorted(set(wanted) - set(before))
    if unknown:
        raise ResponseError(f"the gateway has no limit {unknown[0]}; it has {', '.join(before)}", retry=False)
    whole = {name: _whole(name, value) for name, value in wanted.items()}
    return Plan((), (Step("limits", whole),), (Step("limits", {name: before[name] for name in whole}),))


def _tighter(before: Mapping[str, Any], running: Mapping[str, int], share: float) -> dict[str, Any]:
    """Each limit that is set times ``share``; with none set, as many requests at once as that share of what runs."""
    cut = {name: value * share for name, value in before.items() if value is not None and name != "burst_s"}
    return cut or {"model_concurrency": max(running.values(), default=0) * share}


def _whole(name: str, value: float | None) -> float | int | None:
    return max(1, int(value)) if name == "model_concurrency" and value is not None else value


def _breaker(entry: Entry, state: State, target: str) -> Plan:
    chosen = _spared(entry, state, target)
    return _each(
        chosen,
        lambda one: Step("breaker", {"replica": one["url"], "state": "open"}),
        lambda one: Step("breaker", {"replica": one["url"], "state": "closed"}),
    )


def _drain(entry: Entry, state: State, target: str) -> Plan:
    chosen = _spared(entry, state, target)
    return _each(
        chosen,
        lambda one: Step("drain", {"replica": one["url"], "draining": True}),
        lambda one: Step("drain", {"replica": one["url"], "draining": one["draining"]}),
    )


def _restart(entry: Entry, state: State, target: str) -> Plan:
    chosen = _replicas(state, target)
    return _each(chosen, lambda one: Step("restart", {"replica": one["url"]}), None)


def _batch(entry: Entry, state: State, target: str) -> Plan:
    def fewer(one: Replica) -> int:
        return entry.max_num_seqs or max(1, int(entry.share * (one["batch_limit"] or one["in_flight"])))

    return _each(
        _replicas(state, target),
        lambda one: Step("batch", {"replica": one["url"], "max_num_seqs": fewer(one)}),
        lambda one: Step("batch", {"replica": one["url"], "max_num_seqs": one["batch_limit"]}),
    )


def _traffic(entry: Entry, state: State, target: str) -> Plan:
    """All weights in one step: those of the catalogue, or none for the target and the others as they are."""
    before = {one["url"]: one["weight"] for one in state["replicas"]}
    if entry.weights:
        named = {_found(state, name)["url"]: weight for name, weight in entry.weights.items()}
    else:
        named = {one["url"]: 0.0 for one in _spared(entry, state, target)}
    if not any((before | named).values()):
        raise ResponseError("no replica would be left with a weight above 0", retry=False)
    return Plan(tuple(named), (Step("weights", named),), (Step("weights", {url: before[url] for url in named}),))


PLANS: Mapping[str, Callable[[Entry, State, str], Plan]] = {
    "limits": _limits, "breaker": _breaker, "drain": _drain, "restart": _restart, "batch": _batch, "traffic": _traffic,
}  # fmt: skip


def _each(chosen: Sequence[Replica], do: Callable[[Replica], Step], undo: Callable[[Replica], Step] | None) -> Plan:
    back = () if undo is None else tuple(undo(one) for one in chosen)
    return Plan(tuple(one["url"] for one in chosen), tuple(do(one) for one in chosen), back)


def _spared(entry: Entry, state: State, target: str) -> list[Replica]:
    """The target's replicas, if enough others serve."""
    chosen = _replicas(state, target)
    names = {one["url"] for one in chosen}
    left = [one for one in state["replicas"] if one["url"] not in names and _serves(one)]
    if len(left) < entry.least_left:
        raise ResponseError(
            f"without {', '.join(sorted(names))} {len(left)} replicas would serve, and least_left is "
            f"{entry.least_left}",
            retry=False,
        )
    return chosen


def _serves(one: Replica) -> bool:
    return bool(one["healthy"] and not one["draining"] and one["weight"] > 0 and one["breaker"] == "closed")


def _replicas(state: State, target: str) -> list[Replica]:
    replicas = list(state["replicas"])
    return replicas if target == ALL else [_found(state, target)]


def _found(state: State, target: str) -> Replica:
    """The replica of this URL or host:port; the only one that there is where no target is named."""
    replicas: list[Replica] = list(state["replicas"])
    for one in replicas:
        if target.rstrip("/") in (one["url"].rstrip("/"), urlsplit(one["url"]).netloc):
            return one
    if len(replicas) == 1 and not target:
        return replicas[0]
    urls = ", ".join(one["url"] for one in replicas)
    raise ResponseError(f'the target is "{target}", which is no replica of the gateway; it has {urls}', retry=False)
