"""The HTTP answers: rules and alerts in Prometheus's JSON, history, checks of rules, health and metrics."""

import hmac
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from alerts.alert import Alert
from alerts.answers import success, unauthorized, wrong
from alerts.clock import moment_s, rfc3339
from alerts.group import GroupStatus, RuleStatus
from alerts.manager import Manager
from alerts.muting import Silences
from alerts.preview import QueryRange
from alerts.response_api import acting_routes, reading_routes
from alerts.responses.responder import Responder
from alerts.rule import AlertRule
from alerts.rule_check import checked
from alerts.silence_api import silence_routes
from alerts.template.goformat import show_exponent
from collector.model.durations import SHAPE, parse_duration_ms

DAY_S = 86_400.0
MAX_CHANGES = 10_000
MAX_RULES_BYTES = 1_000_000
RULE_TYPES = {"alert": "alerting", "record": "recording"}

Answer = Callable[[Request], Awaitable[Response]]


def create_app(
    manager: Manager,
    token: str | None = None,
    silences: Silences | None = None,
    *,
    responder: Responder | None = None,
    operator_token: str | None = None,
    query_range: QueryRange | None = None,
    now: Callable[[], float] = time.time,
) -> Starlette:
    """The ASGI application over ``manager``.

    With ``token``, all but health asks for it. Changing responses asks for ``operator_token`` where there is one, which
    opens the rest too. ``query_range`` asks the source for previews; ``now`` answers Unix seconds.
    """
    readers = tuple(one for one in (token, operator_token) if one is not None) if token is not None else ()
    operators = (operator_token,) if operator_token is not None else readers
    reading = [
        *_rule_routes(manager, now),
        *_check_routes(query_range, now),
        *(silence_routes(silences) if silences is not None else ()),
        *(reading_routes(responder) if responder is not None else ()),
    ]
    acting = acting_routes(responder) if responder is not None else ()
    return Starlette(
        routes=[
            *(Route(path, _guarded(answer, readers), methods=methods) for path, methods, answer in reading),
            *(Route(path, _guarded(answer, operators), methods=methods) for path, methods, answer in acting),
            Route("/-/healthy", _healthy),
        ]
    )


async def _healthy(_: Request) -> Response:
    return PlainTextResponse("Alerts are evaluated.\n")


def _rule_routes(manager: Manager, now: Callable[[], float]) -> Sequence[tuple[str, list[str], Answer]]:
    async def rules(request: Request) -> Response:
        wanted = request.query_params.get("type")
        if wanted is not None and wanted not in RULE_TYPES:
            return wrong(f'type is "{wanted}"; allowed are alert, record')
        names = frozenset(request.query_params.getlist("rule_name[]"))
        groups = [group_json(status, RULE_TYPES.get(wanted or ""), names) for status in manager.statuses()]
        if wanted is not None or names:
            groups = [group for group in groups if group["rules"]]
        return success({"groups": groups})

    async def alerts(_: Request) -> Response:
        return success({"alerts": alerts_json(manager.statuses())})

    async def history(request: Request) -> Response:
        asked = request.query_params
        try:
            end_s = moment_s("end", asked.get("end"), now())
            start_s = moment_s("start", asked.get("start"), end_s - DAY_S)
        except ValueError as error:
            return wrong(str(error))
        limit = asked.get("limit", "1000")
        if not limit.isdecimal() or not 0 < int(limit) <= MAX_CHANGES:
            return wrong(f'limit is "{limit}"; a whole number from 1 to {MAX_CHANGES} is allowed')
        found = await run_in_threadpool(manager.history, start_s, end_s, asked.get("alertname"), int(limit))
        return success({"changes": [one.as_json() for one in found]})

    async def metrics(_: Request) -> Response:
        return Response(manager.metrics_page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return (
        ("/api/v1/rules", ["GET"], rules),
        ("/api/v1/alerts", ["GET"], alerts),
        ("/api/v1/history", ["GET"], history),
        ("/metrics", ["GET"], metrics),
    )


def _check_routes(query_range: QueryRange | None, now: Callable[[], float]) -> Sequence[tuple[str, list[str], Answer]]:
    async def check(request: Request) -> Response:
        asked = request.query_params
        lengths = {}
        for name, usual in (("since", "24h"), ("interval", "30s")):
            length_ms = parse_duration_ms(asked.get(name, usual))
            if not length_ms:
                return wrong(f'{name} is "{asked[name]}"; {SHAPE}')
            lengths[name] = length_ms / 1000
        body = await request.body()
        if len(body) > MAX_RULES_BYTES:
            return wrong(f"the body has more than {MAX_RULES_BYTES} bytes")
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            return wrong(f"the body is no UTF-8: {error}")
        source = query_range if asked.get("preview", "true") != "false" else None
        return success(await run_in_threadpool(checked, text, source, now, lengths["since"], lengths["interval"]))

    return (("/api/v1/rules/check", ["POST"], check),)


def group_json(status: GroupStatus, kind: str | None = None, names: frozenset[str] = frozenset()) -> dict[str, Any]:
    """A group as Prometheus's API lists it; ``kind`` and ``names`` narrow its rules."""
    rules = [rule_json(rule) for rule in status.rules]
    return {
        "name": status.group.name,
        "file": status.group.file,
        "rules": [
            rule for rule in rules if (kind is None or rule["type"] == kind) and (not names or rule["name"] in names)
        ],
        "interval": status.interval_s,
        "limit": status.group.limit or 0,
        "evaluationTime": status.took_s,
        "lastEvaluation": rfc3339(status.evaluated_at_s),
    }


def rule_json(status: RuleStatus) -> dict[str, Any]:
    """A rule as Prometheus's API lists it."""
    rule = status.rule
    answer: dict[str, Any] = {"name": rule.name, "query": rule.expr}
    if isinstance(rule, AlertRule):
        answer["state"] = status.state
        answer["duration"] = rule.for_s
        answer["keepFiringFor"] = rule.keep_firing_for_s
        answer["labels"] = dict(rule.labels)
        answer["annotations"] = dict(rule.annotations)
        answer["alerts"] = [alert_json(alert) for alert in status.active]
    elif rule.labels:
        answer["labels"] = dict(rule.labels)
    answer["health"] = status.health
    if status.error:
        answer["lastError"] = status.error
    answer["evaluationTime"] = status.took_s
    answer["lastEvaluation"] = rfc3339(status.evaluated_at_s)
    answer["type"] = "alerting" if isinstance(rule, AlertRule) else "recording"
    return answer


def alerts_json(statuses: Iterable[GroupStatus]) -> list[dict[str, Any]]:
    """Every pending and firing alert, as Prometheus's API lists them."""
    return [alert_json(alert) for status in statuses for rule in status.rules for alert in rule.active]


def alert_json(alert: Alert) -> dict[str, Any]:
    """An alert as Prometheus's API lists it."""
    answer: dict[str, Any] = {
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "state": alert.state,
        "activeAt": rfc3339(alert.active_at_s),
        "value": show_exponent(alert.value),
    }
    if alert.keep_firing_since_s is not None:
        answer["keepFiringSince"] = rfc3339(alert.keep_firing_since_s)
    return answer


def _guarded(answer: Answer, tokens: Sequence[str]) -> Answer:
    """The answer to who shows one of ``tokens``; to everybody where there is none."""
    if not tokens:
        return answer
    expected = [f"Bearer {token}".encode() for token in tokens]

    async def checked_first(request: Request) -> Response:
        shown = request.headers.get("authorization", "").encode()
        if any(hmac.compare_digest(shown, one) for one in expected):
            return await answer(request)
        return unauthorized()

    return checked_first
