"""What the engine's loop needs of those beside it: who computes, and who turns tokens into text."""

from collections.abc import Collection, Mapping
from typing import Protocol

from probe_engine.model.logprobs import TokenLogprobs
from probe_engine.model.sampling import SamplingParams
from probe_engine.sched import SchedulerOutput


class ModelRunner(Protocol):
    """Carries out a step; keeps each request's token ids and appends what it samples.

    ``logprobs``: of the last step's tokens, by request id, for the requests whose sampling asks for them.
    """

    logprobs: dict[str, TokenLogprobs]

    def add(self, request_id: str, prompt_ids: list[int], sampling: SamplingParams) -> None:
        """Take in a request before its first step."""

    def execute(self, output: SchedulerOutput) -> Mapping[str, int]:
        """Compute one step; the sampled token of every chunk that yields one, by request id."""

    def remove(self, request_id: str) -> None:
        """Forget a request."""


class TextStream(Protocol):
    """Turns one output's tokens into text as they come."""

    def push(self, token_id: int) -> str:
        """Text that became complete with ``token_id``."""

    def flush(self) -> str:
        """What is still held back when no more tokens come."""


class Detokeniser(Protocol):
    """The side of a tokenizer that the engine needs."""

    @property
    def eos_ids(self) -> Collection[int]:
        """Tokens that end an output."""

    def stream(self) -> TextStream:
        """A fresh decoder for one output."""
