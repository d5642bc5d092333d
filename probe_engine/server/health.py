"""Whether the process lives, whether it serves, and which version it is."""

from fastapi import APIRouter
from starlette.responses import Response

from probe_engine.server.deployment import Deployment
from probe_engine.server.failures import JsonAnswer


def health_routes(deployment: Deployment) -> APIRouter:
    """``/health``, ``/ready`` and ``/version``."""
    routes = APIRouter()

    @routes.get("/health")
    @routes.get("/ping", include_in_schema=False)
    async def health() -> Response:
        """200 while the process answers."""
        return JsonAnswer({"status": "alive"})

    @routes.get("/ready")
    async def ready() -> Response:
        """200 when requests are served, 503 while the model loads."""
        return JsonAnswer({"status": "ready"}) if deployment.ready else JsonAnswer({"status": "loading"}, 503)

    @routes.get("/version")
    async def version() -> Response:
        """The program's version."""
        return JsonAnswer({"version": deployment.version})

    return routes
