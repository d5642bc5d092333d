"""How a replay is played, as one value."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from planner.replay.exchange import Endpoint
from planner.slo import Slo
from planner.traces.workload import Shaping

PromptMode = Literal["ids", "text"]
SessionMode = Literal["open", "closed"]


@dataclass(frozen=True, slots=True)
class Playing:
    """The server, the shaping, and what to do beside.

    ``prompts`` of None are token ids for completions, text for chats and closed sessions. ``sessions``: turns go out by
    the trace's clock (open), or each after the answer before, which it holds (closed). ``warm_up_s``: what is due
    before is played and left out of the figures. ``max_errors``: so many requests that failed end the run. ``name``
    begins the ids of the requests, one made up by default.
    """

    url: str
    model: str | None = None
    shaping: Shaping = Shaping()
    seed: int = 0
    slo: Slo | None = None
    token: str | None = None
    timeout_s: float = 600.0
    watch_server: bool = True
    endpoint: Endpoint = "completions"
    prompts: PromptMode | None = None
    sessions: SessionMode = "open"
    tokenizer: Path | None = None
    ignore_eos: bool = True
    processes: int = 1
    warm_up_s: float = 0.0
    max_duration_s: float | None = None
    max_errors: int | None = None
    name: str | None = None

    @property
    def as_text(self) -> bool:
        """Whether prompts are texts."""
        text = self.endpoint == "chat" or self.sessions == "closed"
        return (self.prompts or ("text" if text else "ids")) == "text"

    def told(self) -> dict[str, Any]:
        """The options that make a run what it is, as a list of runs shows them."""
        beside = {
            "endpoint": self.endpoint,
            "prompts": "text" if self.as_text else "ids",
            "sessions": self.sessions,
            "processes": self.processes,
            "warm_up_s": self.warm_up_s,
            "max_duration_s": self.max_duration_s,
            "max_errors": self.max_errors,
        }
        usual = {"endpoint": "completions", "prompts": "ids", "sessions": "open", "processes": 1, "warm_up_s": 0.0}
        changed = {name: value for name, value in beside.items() if value is not None and value != usual.get(name)}
        return {**self.shaping.model_dump(exclude_defaults=True, mode="json"), "seed": self.seed, **changed}
