"""When one request reached each stage, for callers that ask for it with the header ``x-loadline-timing: true``."""

from typing import Any

from probe_engine.sched import Request


def timing(request: Request) -> dict[str, Any]:
    """Seconds from stage to stage of a request that has ended, and what happened to it; None: never reached."""
    timeline = request.timeline
    return {
        "queue_s": timeline.queue_s,
        "prefill_s": timeline.prefill_s,
        "decode_s": timeline.decode_s,
        "ttft_s": timeline.ttft_s,
        "tpot_s": timeline.tpot_s,
        "e2e_s": timeline.e2e_s,
        "cached_tokens": request.cached_tokens,
        "preemptions": request.preemptions,
    }
