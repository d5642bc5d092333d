"""The alerts process over HTTP: rules with their state, history, silences, responses, and checks of rules.

Speaks what ``alerts/README.md`` states; silences are Alertmanager's (v2), so any Alertmanager-compatible server has
those too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from dashboard.errors import AlertingError
from dashboard.words import said_reason, say

TIMEOUT_S = 10.0
CHECK_TIMEOUT_S = 60.0

Record = Mapping[str, Any]


class Alerting:
    """A client of one alerts process; safe to share between threads. Every call raises AlertingError.

    ``transport`` replaces the network in tests.
    """

    def __init__(self, address: str, token: str | None = None, *, transport: httpx.BaseTransport | None = None) -> None:
        self.address = address.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=self.address, headers=headers, timeout=TIMEOUT_S, transport=transport)

    def rules(self) -> Sequence[Record]:
        """Groups of rules with their alerts, in Prometheus's JSON."""
        groups: Sequence[Record] = self._data("GET", "/api/v1/rules")["groups"]
        return groups

    def history(self, start_s: float, end_s: float, limit: int = 500) -> Sequence[Record]:
        """Changes of state between two moments (Unix), latest first."""
        asked = {"start": f"{start_s:.0f}", "end": f"{end_s:.0f}", "limit": str(limit)}
        changes: Sequence[Record] = self._data("GET", "/api/v1/history", params=asked)["changes"]
        return changes

    def responses(self) -> Record:
        """``responses``, latest first, the ``catalogue`` and the ``gateway``."""
        found: Record = self._data("GET", "/api/v1/responses")
        return found

    def decide(self, response_id: str, wish: str, by: str, comment: str) -> Record:
        """Confirm, dismiss or undo a response; the response as it stands after."""
        body = {"by": by, "comment": comment}
        found: Record = self._data("POST", f"/api/v1/responses/{response_id}/{wish}", json=body)
        return found

    def check(self, rules: str, since: str) -> Record:
        """What is to be said of the YAML of a rule file, with how often it would have fired in the last ``since``."""
        found: Record = self._data(
            "POST", "/api/v1/rules/check", params={"since": since, "preview": "true"}, content=rules.encode(),
            headers={"Content-Type": "application/yaml"}, timeout=CHECK_TIMEOUT_S,
        )  # fmt: skip
        return found

    def silences(self) -> Sequence[Record]:
        """Every silence that is kept, expired ones too."""
        found: Sequence[Record] = self._ask("GET", "/api/v2/silences")
        return found

    def silence(self, body: Record) -> str:
        """Make a silence; its id."""
        return str(self._ask("POST", "/api/v2/silences", json=dict(body))["silenceID"])

    def expire(self, silence_id: str) -> None:
        """End a silence now."""
        self._ask("DELETE", f"/api/v2/silence/{silence_id}")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _data(self, method: str, path: str, **more: Any) -> Any:
        answer = self._ask(method, path, **more)
        if not isinstance(answer, dict) or "data" not in answer:
            url = self.address + path
            raise AlertingError(say("{url} answers no data: it is no alerts process of Loadline", url=url))
        return answer["data"]

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        try:
            answer = self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            cause = said_reason(str(error)) or "timeout"
            raise AlertingError(
                say("the alerts process at {address} does not answer: {why}", address=self.address, why=cause)
            ) from error
        try:
            body = answer.json() if answer.content else None
        except ValueError:
            body = None
        if answer.is_success and body is not None:
            return body
        why = body.get("error") if isinstance(body, dict) else body
        said = str(why or answer.reason_phrase)
        told = say("the alerts process answers {status}: {why}", status=answer.status_code, why=said)
        raise AlertingError(told, answer.status_code)
