"""What runs here, what it counts, and its last steps: ``/metadata``, ``/metrics``, ``/steps``, ``/forward_passes``."""

from dataclasses import asdict
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request
from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from starlette.responses import Response

from probe_engine.server.deployment import Deployment
from probe_engine.server.failures import JsonAnswer
from probe_engine.telemetry.steps import forward_pass


def metadata_routes(deployment: Deployment) -> APIRouter:
    """The routes, telling of ``deployment``."""
    routes = APIRouter()
    registry = deployment.metrics.registry()
    ProcessCollector(registry=registry)

    @routes.head("/metrics", include_in_schema=False)
    @routes.get("/metrics")
    async def metrics(request: Request) -> Response:
        """Prometheus exposition (or OpenMetrics, where asked for)."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    @routes.get("/metadata")
    async def metadata() -> Response:
        """Model, numbers, limits and KV blocks."""
        served = deployment.served
        scheduler = served.engine.engine.scheduler
        return JsonAnswer(
            {
                "model": {"name": deployment.model_name, **served.loaded.shape},
                "dtype": served.loaded.dtype,
                "device": served.loaded.device,
                "version": deployment.version,
                "scheduler": asdict(scheduler.config),
                "kv_blocks": {"total": scheduler.num_blocks, "free": scheduler.free_blocks},
                "max_queue": deployment.max_queue,
                "load_seconds": dict(served.loaded.phases_s),
                "cold_start_seconds": sum(served.loaded.phases_s.values()),
            }
        )

    @routes.get("/steps")
    async def steps(since: Annotated[int, Query(ge=0, description="Number of the first step wanted.")] = 0) -> Response:
        """The last engine steps from ``since`` on (65,536 are kept); ``next`` is what to ask for next time."""
        records = deployment.served.engine.engine.steps.since(since)
        following = records[-1].step + 1 if records else since
        return JsonAnswer({"steps": [record._asdict() for record in records], "next": following})

    @routes.get("/forward_passes")
    async def forward_passes(
        since: Annotated[int, Query(ge=0, description="Number of the first step wanted.")] = 0,
    ) -> Response:
        """The same steps as JSON lines in the fields of Dynamo's ForwardPassMetrics v1."""
        records = deployment.served.engine.engine.steps.since(since)
        lines = [orjson.dumps(forward_pass(record, deployment.model_name)) + b"\n" for record in records]
        return Response(b"".join(lines), media_type="application/x-ndjson")

    return routes
