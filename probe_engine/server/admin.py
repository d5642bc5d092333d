"""What an operator, or an alert, changes while the engine serves: ``POST /admin/limits``."""

import logging
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from probe_engine.errors import ApiError
from probe_engine.sched import ConfigError
from probe_engine.server.deployment import Deployment
from probe_engine.server.failures import JsonAnswer

log = logging.getLogger(__name__)


class LimitsBody(BaseModel):
    """Limits to hold to; null takes one off again."""

    model_config = ConfigDict(strict=True, extra="forbid")

    max_num_seqs: Annotated[int, Field(ge=1)] | None


def admin_routes(deployment: Deployment, *, guarded: bool) -> APIRouter:
    """The routes; without a token that guards the server (``guarded``) they are closed."""
    routes = APIRouter()

    def scheduler_limits() -> dict[str, int]:
        scheduler = deployment.served.engine.engine.scheduler
        return {"max_num_seqs": scheduler.batch_limit, "configured_max_num_seqs": scheduler.config.max_num_seqs}

    def check() -> None:
        if not guarded:
            raise ApiError(403, "the admin API needs --auth-token-file", code="no_token", reason="unauthorized")

    @routes.get("/admin/limits")
    async def limits() -> Response:
        """Most requests that may run now, and with how many the engine started."""
        check()
        return JsonAnswer(scheduler_limits())

    @routes.post("/admin/limits")
    async def change(body: LimitsBody) -> Response:
        """Let fewer requests run at once, or as many as configured again; what runs goes on."""
        check()
        try:
            deployment.served.engine.engine.scheduler.hold_to(body.max_num_seqs)
        except ConfigError as error:
            raise ApiError(400, str(error), param="max_num_seqs") from error
        log.warning("admin: at most %s requests run at once", body.max_num_seqs or "the configured number of")
        return JsonAnswer(scheduler_limits())

    return routes
