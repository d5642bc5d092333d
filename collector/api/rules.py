"""Rules and alerts: passed on from the alerts process, which knows them."""

from typing import Any

import httpx
import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from collector.api import answers
from collector.api.parts import Parts

PASSED_ON = {"rules": b'{"groups":[]}', "alerts": b'{"alerts":[]}'}
"""What is passed on, and the answer where the alerts process cannot be reached."""


def routes(parts: Parts) -> APIRouter:
    """The routes, answering for the process at ``parts.alerts_url``."""
    router = APIRouter(prefix="/api/v1", tags=["rules"])
    for name in PASSED_ON:
        router.add_api_route(f"/{name}", _passed_on(parts, name), methods=["GET"], operation_id=name)
    return router


def _passed_on(parts: Parts, name: str) -> Any:
    async def pass_on(request: Request) -> Response:
        """What the alerts process answers."""
        url = f"{parts.alerts_url.rstrip('/')}/api/v1/{name}"
        try:
            answer = await parts.http.get(url, params=str(request.query_params), timeout=5.0)
            orjson.loads(answer.content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            return answers.success(PASSED_ON[name], [f"alerts at {url} cannot be reached: {reason}"])
        except orjson.JSONDecodeError:
            return answers.success(PASSED_ON[name], [f"alerts at {url} answers {answer.status_code} and no JSON"])
        return Response(answer.content, status_code=answer.status_code, media_type=answers.MEDIA_TYPE)

    return pass_on
