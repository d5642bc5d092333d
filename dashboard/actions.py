"""What a page's buttons ask of the server: POSTs of JSON below ``do/``, each with its role and a line of audit.

``assets/40-act.js`` sends them: whatever carries ``data-post`` names the action and gathers its fields.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from flask import Flask, Response, g, request

from dashboard.access import Person, Role
from dashboard.answers import catalogue_of_request
from dashboard.errors import ActionRefused, DashboardError, ViewError
from dashboard.words import said_error, say

BELOW = "do/"
AUDIT = logging.getLogger("dashboard.audit")

Fields = Mapping[str, Any]
Run = Callable[[Fields, Person], Mapping[str, Any]]
"""Does it; its answer goes to the browser: ``said`` is shown, ``search`` becomes the address's query string."""


def add_action(server: Flask, prefix: str, name: str, needed: Role, run: Run) -> None:
    """Answer ``POST {prefix}do/{name}`` with ``run``, for people with the role ``needed``."""

    def act() -> Response:
        person = person_of_request()
        if not person.may(needed):
            return refused(f"do/{name}", person, no_role(needed, person), 403)
        if not request.is_json or not isinstance(fields := request.get_json(silent=True), dict):
            return refused(f"do/{name}", person, "the body must be a JSON object", 400)
        try:
            answer = run(fields, person)
        except ActionRefused as refusal:
            return refused(f"do/{name}", person, said_error(refusal), refusal.status)
        except ViewError as error:
            return refused(f"do/{name}", person, said_error(error), 400)
        except DashboardError as error:
            return refused(f"do/{name}", person, said_error(error), 502)
        audit(f"do/{name}", person, 200, {key: value for key, value in fields.items() if _is_short(value)})
        return answered(answer, 200)

    server.add_url_rule(f"{prefix}{BELOW}{name}", f"do-{name}", act, methods=["POST"])


def person_of_request() -> Person:
    """Who sends the request at hand, as the guard found."""
    person: Person = g.person
    return person


def no_role(needed: Role, person: Person) -> str:
    """Why ``person`` may not."""
    return say("this needs the role {needed}; {name} is {role}", needed=needed, name=person.name, role=person.role)


def refused(what: str, person: Person, why: str, status: int) -> Response:
    """An answer that says why not, and its line of audit."""
    audit(what, person, status, {"why": why})
    return answered({"error": why}, status)


def audit(what: str, person: Person, status: int, told: Fields) -> None:
    """One line: who did what, from where, with which outcome."""
    line = {"by": person.name, "role": person.role, "from": request.remote_addr, "did": what, "status": status}
    AUDIT.info("%s", orjson.dumps(line | {"with": dict(told)}).decode())


def _is_short(value: Any) -> bool:
    return isinstance(value, int | float | bool) or (isinstance(value, str) and len(value) <= 200)


def answered(body: Mapping[str, Any], status: int) -> Response:
    """``body`` as JSON; its ``said`` and ``error`` are in the language of whoever asks."""
    of = catalogue_of_request().of
    told = {name: of(value) if name in ("said", "error") else value for name, value in body.items()}
    return Response(orjson.dumps(told), status, mimetype="application/json")
