"""The HTTP answers: ``/api/v1/rules`` and ``/api/v1/alerts`` in Prometheus's JSON, health and metrics."""

import hmac
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from alerts.alert import Alert
from alerts.clock import rfc3339
from alerts.group import GroupStatus, RuleStatus
from alerts.manager import Manager
from alerts.muting import Silences
from alerts.rule import AlertRule
from alerts.silence_api import silence_routes
from alerts.template.goformat import show_exponent

RULE_TYPES = {"alert": "alerting", "record": "recording"}

Answer = Callable[[Request], Awaitable[Response]]


def create_app(manager: Manager, token: str | None = None, silences: Silences | None = None) -> Starlette:
    """The ASGI application over ``manager``; with ``token``, all but health asks for it."""

    async def rules(request: Request) -> Response:
        wanted = request.query_params.get("type")
        if wanted is not None and wanted not in RULE_TYPES:
            return _bad_request(f'type is "{wanted}"; allowed are alert, record')
        names = frozenset(request.query_params.getlist("rule_name[]"))
        groups = [group_json(status, RULE_TYPES.get(wanted or ""), names) for status in manager.statuses()]
        if wanted is not None or names:
            groups = [group for group in groups if group["rules"]]
        return _success({"groups": groups})

    async def alerts(_: Request) -> Response:
        return _success({"alerts": alerts_json(manager.statuses())})

    async def healthy(_: Request) -> Response:
        return PlainTextResponse("Alerts are evaluated.\n")

    async def metrics(_: Request) -> Response:
        return Response(manager.metrics_page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return Starlette(
        routes=[
            Route("/api/v1/rules", _guarded(rules, token)),
            Route("/api/v1/alerts", _guarded(alerts, token)),
            Route("/metrics", _guarded(metrics, token)),
            Route("/-/healthy", healthy),
            *(
                Route(path, _guarded(answer, token), methods=methods)
                for path, methods, answer in (silence_routes(silences) if silences is not None else ())
            ),
        ]
    )


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


def _guarded(answer: Answer, token: str | None) -> Answer:
    if token is None:
        return answer
    expected = f"Bearer {token}".encode()

    async def checked(request: Request) -> Response:
        if hmac.compare_digest(request.headers.get("authorization", "").encode(), expected):
            return await answer(request)
        body = {"status": "error", "errorType": "unauthorized", "error": "a bearer token is needed"}
        return _json(body, 401, {"WWW-Authenticate": "Bearer"})

    return checked


def _success(data: Any) -> Response:
    return _json({"status": "success", "data": data}, 200)


def _bad_request(reason: str) -> Response:
    return _json({"status": "error", "errorType": "bad_data", "error": reason}, 400)


def _json(body: Any, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type="application/json")
