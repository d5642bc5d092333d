"""One request as it is planned, what became of it, and the bodies that ask for it.

Speaks OpenAI's ``/v1/completions`` (a prompt of token ids, as vLLM, SGLang and Loadline's engine take it, or of text)
and ``/v1/chat/completions``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from planner.traces.trace import IntArray

Clock = Callable[[], float]
Endpoint = Literal["completions", "chat"]
Message = Mapping[str, str]
"""A chat's message: role and content."""
PATHS: Mapping[str, str] = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}


@dataclass(frozen=True, slots=True)
class Planned:
    """One request to send: when (seconds from the run's start), its id and its body."""

    row_id: int
    due_s: float
    request_id: str
    body: bytes


@dataclass(slots=True)
class Exchange:
    """What became of one request; times on the run's clock, None where the event never came.

    ``sent_s`` is when the last byte of the request was handed to the socket. ``status`` is one of
    ``planner.result.STATUSES``. Token counts are the server's own, None where it did not say. ``answer``
    gathers the text that came, where it is a list.
    """

    row_id: int
    due_s: float
    sent_s: float | None = None
    end_s: float | None = None
    token_times_s: list[float] = field(default_factory=list)
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    status: str = "unfinished"
    error: str | None = None
    answer: list[str] | None = None


def body_of(
    endpoint: Endpoint,
    model: str,
    prompt: IntArray | str | Sequence[Message],
    output_tokens: int,
    *,
    ignore_eos: bool = True,
) -> bytes:
    """JSON body of a streamed greedy completion of ``output_tokens`` tokens; exactly so many under ``ignore_eos``.

    A chat's prompt is its one message, or all of them.
    """
    asked: dict[str, Any] = {
        "model": model,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if ignore_eos:
        asked["ignore_eos"] = True
    if endpoint == "chat":
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        asked |= {"messages": messages, "max_completion_tokens": output_tokens}
    else:
        asked |= {"prompt": prompt, "max_tokens": output_tokens}
    return orjson.dumps(asked, option=orjson.OPT_SERIALIZE_NUMPY)


def error_message(body: bytes) -> str:
    """The message of OpenAI's error shape, or the body's first 200 characters."""
    try:
        error = orjson.loads(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")
