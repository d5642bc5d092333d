"""Loadline's gateway as responses see it: its state, and changes to it, through the admin API."""

from collections.abc import Mapping
from typing import Any

import httpx
import orjson

from alerts.errors import ResponseError
from alerts.responses.response import Step


class GatewayAdmin:
    """The admin API at ``url``. Every method raises ResponseError; ``retry`` says whether it may work later."""

    def __init__(self, http: httpx.Client, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._http = http
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def state(self) -> Mapping[str, Any]:
        """``GET /admin/state``."""
        return self._ask("GET", "state", b"")

    def change(self, step: Step) -> Mapping[str, Any]:
        """Carry out one step; the state after it."""
        return self._ask("POST", step.change, orjson.dumps(step.body))

    def _ask(self, method: str, name: str, body: bytes) -> Mapping[str, Any]:
        where = f"{self.url}/admin/{name}"
        try:
            answer = self._http.request(method, where, content=body, headers=self._headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ResponseError(f"{where}: {error or type(error).__name__}", retry=True) from error
        if answer.status_code != httpx.codes.OK:
            retry = answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR
            raise ResponseError(f"{where}: {answer.status_code}: {_reason(answer)}", retry=retry)
        found: Mapping[str, Any] = orjson.loads(answer.content)
        return found


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text.strip()[:300]
