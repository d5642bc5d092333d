"""OpenAI's response bodies and stream chunks, made from token outputs. Pure: no sockets."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from probe_engine.model.logprobs import TokenLogprobs
from probe_engine.runtime.generation import Operation, TokenOutput
from probe_engine.sched import FinishReason, Request
from probe_engine.server.logprobs import TextOf, chat_logprobs, completion_logprobs
from probe_engine.server.timing import timing

DONE = b"data: [DONE]\n\n"
OBJECTS: dict[Operation, tuple[str, str]] = {  # whole answer, stream chunk
    "text_completion": ("text_completion", "text_completion"),
    "chat": ("chat.completion", "chat.completion.chunk"),
}


@dataclass(frozen=True, slots=True)
class Head:
    """What every body and chunk of one answer says of itself. ``created`` is in Unix seconds.

    timing: whether each choice tells when it reached each stage, once it has ended.
    """

    answer_id: str
    model: str
    created: int
    operation: Operation
    timing: bool = False


@dataclass(slots=True)
class Usage:
    """Token counts of one answer, over all its choices."""

    prompt_tokens: int
    completion_tokens: int = 0
    cached_tokens: int = 0
    choices_per_prompt: int = 1  # only the first of each reads its prompt from the cache on the caller's account

    def body(self) -> dict[str, Any]:
        """OpenAI's ``usage``."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }

    def take(self, index: int, output: TokenOutput) -> None:
        """Count one output of the choice ``index``."""
        if output.token_id is not None:
            self.completion_tokens += 1
        if output.request is not None and index % self.choices_per_prompt == 0:
            self.cached_tokens += output.request.cached_tokens


@dataclass(slots=True)
class Choice:
    """One choice of an answer as it gathers."""

    texts: list[str] = field(default_factory=list)
    request: Request | None = None
    stop_reason: str | int | None = None
    logprobs: list[TokenLogprobs] = field(default_factory=list)

    def take(self, output: TokenOutput) -> None:
        """Add one output."""
        self.texts.append(output.text)
        if output.logprobs is not None:
            self.logprobs.append(output.logprobs)
        if output.finish_reason is not None:
            self.request, self.stop_reason = output.request, output.stop_reason

    def body(self, index: int, head: Head, text_of: TextOf) -> dict[str, Any]:
        """OpenAI's choice."""
        operation = head.operation
        text = "".join(self.texts)
        reason = None if self.request is None else self.request.finish_reason
        content = {"text": text} if operation == "text_completion" else {"message": _message(text)}
        return {
            "index": index,
            **content,
            "logprobs": _logprobs(self.logprobs, operation, text_of, 0) if self.logprobs else None,
            "finish_reason": reason,
            "stop_reason": self.stop_reason,
            **({"timing": timing(self.request)} if head.timing and self.request is not None else {}),
        }


def whole_answer(head: Head, choices: Sequence[Choice], usage: Usage, text_of: TextOf) -> dict[str, Any]:
    """The body of an answer that is not streamed. ``text_of`` gives a token's text, for log probabilities."""
    return {
        "id": head.answer_id,
        "object": OBJECTS[head.operation][0],
        "created": head.created,
        "model": head.model,
        "choices": [choice.body(index, head, text_of) for index, choice in enumerate(choices)],
        "usage": usage.body(),
    }


class Chunks:
    """Server-sent events of one streamed answer; what all chunks share is encoded once.

    text_of: gives a token's text, for log probabilities. include_usage: a last chunk carries the usage, with no
    choices. continuous: every chunk does.
    """

    def __init__(self, head: Head, usage: Usage, text_of: TextOf, *, include_usage: bool, continuous: bool) -> None:
        self.usage = usage
        self._head = head
        self._text_of = text_of
        self._offsets: dict[int, int] = {}  # by choice: characters of the tokens whose log probabilities were told
        self._include_usage = include_usage
        self._continuous = continuous
        self._chat = head.operation == "chat"
        shared = {
            "id": head.answer_id,
            "object": OBJECTS[head.operation][1],
            "created": head.created,
            "model": head.model,
        }
        self._shared = orjson.dumps(shared)[:-1]
        self._before = b"data: " + self._shared + b',"choices":[{"index":'
        self._content = b',"delta":{"content":' if self._chat else b',"text":'
        self._after = (b"}" if self._chat else b"") + b',"logprobs":'

    def opening(self, choices: int) -> bytes:
        """What comes before the first token: in a chat, the role."""
        if not self._chat:
            return b""
        role = b',"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]'
        return b"".join(self._before + b"%d" % index + role + self._tail() for index in range(choices))

    def event(self, index: int, output: TokenOutput) -> bytes:
        """The chunk of one output."""
        self.usage.take(index, output)
        reason = b"null" if output.finish_reason is None else b'"%s"' % output.finish_reason.encode()
        if output.stop_reason is not None:
            reason += b',"stop_reason":' + orjson.dumps(output.stop_reason)
        if self._head.timing and output.request is not None:
            reason += b',"timing":' + orjson.dumps(timing(output.request))
        text = self._content + orjson.dumps(output.text) + self._after + self._logprobs(index, output)
        return self._before + b"%d" % index + text + reason + b"}]" + self._tail()

    def _logprobs(self, index: int, output: TokenOutput) -> bytes:
        told = output.logprobs
        if told is None:
            return b'null,"finish_reason":'
        offset = self._offsets.get(index, 0)
        self._offsets[index] = offset + len(self._text_of(told.token_id))
        return orjson.dumps(_logprobs([told], self._head.operation, self._text_of, offset)) + b',"finish_reason":'

    def closing(self) -> bytes:
        """What comes after the last token."""
        if not self._include_usage:
            return DONE
        return b"data: " + self._shared + b',"choices":[],"usage":' + orjson.dumps(self.usage.body()) + b"}\n\n" + DONE

    @staticmethod
    def failure(error: dict[str, Any]) -> bytes:
        """An error inside a stream, and its end."""
        return b"data: " + orjson.dumps(error) + b"\n\n" + DONE

    def _tail(self) -> bytes:
        if not self._continuous:
            return b"}\n\n"
        return b',"usage":' + orjson.dumps(self.usage.body()) + b"}\n\n"


def gather(choices: Sequence[Choice], usage: Usage, batch: Iterable[tuple[int, TokenOutput]]) -> TokenOutput | None:
    """Add a batch of (choice, output) to an answer; the output that failed, if one did."""
    for index, output in batch:
        if output.error is not None:
            return output
        choices[index].take(output)
        usage.take(index, output)
    return None


def error_code(output: TokenOutput) -> str:
    """``error.code`` of an output that failed."""
    return "deadline_exceeded" if output.finish_reason is FinishReason.DEADLINE else "engine_failed"


def error_body(message: str, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    """OpenAI's error shape."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _logprobs(told: Sequence[TokenLogprobs], operation: Operation, text_of: TextOf, offset: int) -> dict[str, Any]:
    if operation == "chat":
        return chat_logprobs(told, text_of)
    return completion_logprobs(told, text_of, offset)


def _message(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text, "refusal": None}
