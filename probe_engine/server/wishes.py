"""What a caller may say in headers: how its requests are scheduled (class, tenant, deadline), and what to tell it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from probe_engine.errors import ApiError

PRIORITY = "x-loadline-priority"
TENANT = "x-loadline-tenant"
DEADLINE = "x-loadline-deadline-ms"
TIMING = "x-loadline-timing"

DEFAULT_PRIORITY = 5
LEAST_URGENT = 9
MAX_DEADLINE_MS = 86_400_000
TENANT_NAME = re.compile(r"[A-Za-z0-9._:@-]{1,64}")
WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Wishes:
    """priority: class, 0 is the most urgent. tenant: whose share it is. deadline_s: on the engine's clock.

    timing: whether each choice of the answer tells when it reached each stage.
    """

    priority: int = DEFAULT_PRIORITY
    tenant: str | None = None
    deadline_s: float | None = None
    timing: bool = False


def read_wishes(headers: Mapping[str, str], arrival_s: float) -> Wishes:
    """The wishes of a request that arrived at ``arrival_s``; ``ApiError`` (400) names the header that is wrong."""
    priority = _number(headers, PRIORITY, 0, LEAST_URGENT)
    tenant = headers.get(TENANT)
    if tenant is not None and not TENANT_NAME.fullmatch(tenant):
        raise ApiError(400, f"{TENANT} is {tenant[:80]!r}; 1 to 64 letters, digits or ._:@- are allowed", param=TENANT)
    deadline_ms = _number(headers, DEADLINE, 1, MAX_DEADLINE_MS)
    return Wishes(
        DEFAULT_PRIORITY if priority is None else priority,
        tenant,
        None if deadline_ms is None else arrival_s + deadline_ms / 1000,
        _flag(headers, TIMING),
    )


def _flag(headers: Mapping[str, str], name: str) -> bool:
    text = headers.get(name, "false")
    if text not in ("true", "false"):
        raise ApiError(400, f"{name} is {text[:80]!r}; true or false is allowed", param=name)
    return text == "true"


def _number(headers: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    text = headers.get(name)
    if text is None:
        return None
    if not WHOLE_NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise ApiError(400, f"{name} is {text[:80]!r}; a whole number from {least} to {most} is allowed", param=name)
    return int(text)
