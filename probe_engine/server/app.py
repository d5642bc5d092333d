"""The engine's ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from probe_engine.server.admin import admin_routes
from probe_engine.server.deployment import Deployment
from probe_engine.server.failures import add_failures
from probe_engine.server.guard import MAX_BODY_BYTES, Guard
from probe_engine.server.health import health_routes
from probe_engine.server.metadata import metadata_routes
from probe_engine.server.openai_api import openai_routes


def create_app(deployment: Deployment, *, token: str | None = None, max_body_bytes: int = MAX_BODY_BYTES) -> FastAPI:
    """An application that serves ``deployment`` and stops it at shutdown; loading it is the caller's part.

    ``token``: what every request but the probes must carry.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await deployment.stop()

    app = FastAPI(title="Loadline engine", version=deployment.version, lifespan=lifespan, docs_url=None, redoc_url=None)
    add_failures(app, deployment.metrics)
    for routes in (openai_routes, health_routes, metadata_routes):
        app.include_router(routes(deployment))
    app.include_router(admin_routes(deployment, guarded=token is not None))
    app.add_middleware(Guard, metrics=deployment.metrics, token=token, max_body_bytes=max_body_bytes)
    return app
