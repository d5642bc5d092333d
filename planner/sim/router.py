"""Which replica gets the next request. A policy is a function of the replicas and the request's number."""

from collections.abc import Callable, Sequence

from planner.sim.replica import Replica

Router = Callable[[Sequence[Replica], int], int]


def least_load(replicas: Sequence[Replica], number: int) -> int:
    """The replica with the fewest requests; ties go round, so that idle replicas share the work."""
    loads = [replica.load for replica in replicas]
    least = min(loads)
    start = number % len(loads)
    try:
        return loads.index(least, start)
    except ValueError:
        return loads.index(least)


def round_robin(replicas: Sequence[Replica], number: int) -> int:
    """Each in turn, whatever it holds."""
    return number % len(replicas)


GATEWAY_ROUTERS = {"weighted_round_robin": "round_robin", "weighted_least_load": "least_load", "prefix": "prefix"}
"""Routers of the engine's gateway, by the names that they have here; ``prefix`` hashes with bounded loads."""

ROUTERS: dict[str, Router] = {"least_load": least_load, "round_robin": round_robin}
