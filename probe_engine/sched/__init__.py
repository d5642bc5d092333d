"""The scheduler, shared by the engine and the planner's twin: standard library only, no text, no tensors."""

from probe_engine.sched.block_hash import hash_blocks
from probe_engine.sched.config import Policy, SchedulerConfig
from probe_engine.sched.errors import ConfigError, RequestRefused, SchedulerError
from probe_engine.sched.output import Chunk, SchedulerOutput, StepStats
from probe_engine.sched.policies import POLICIES
from probe_engine.sched.request import FinishReason, Request, RequestStatus
from probe_engine.sched.scheduler import Scheduler
from probe_engine.sched.timeline import RequestTimeline

__all__ = [
    "POLICIES",
    "Chunk",
    "ConfigError",
    "FinishReason",
    "Policy",
    "Request",
    "RequestRefused",
    "RequestStatus",
    "RequestTimeline",
    "Scheduler",
    "SchedulerConfig",
    "SchedulerError",
    "SchedulerOutput",
    "StepStats",
    "hash_blocks",
]
