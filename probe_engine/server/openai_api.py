"""``/v1/completions``, ``/v1/chat/completions``, ``/v1/models`` and ``/tokenize``."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, cast

from fastapi import APIRouter, Request
from starlette.responses import Response

from probe_engine.errors import ApiError, ModelError, QueueFull, Stopping
from probe_engine.model.sampling import SamplingParams
from probe_engine.runtime.async_engine import OutputStream
from probe_engine.runtime.generation import Generation, Operation
from probe_engine.sched import FinishReason, RequestRefused
from probe_engine.server.answers import Choice, Chunks, Head, Usage, error_code, gather, whole_answer
from probe_engine.server.deployment import Deployment, Served
from probe_engine.server.event_stream import EventStream, close_on_disconnect
from probe_engine.server.failures import JsonAnswer
from probe_engine.server.logprobs import TextOf
from probe_engine.server.protocol import (
    COMPLETION_MAX_TOKENS,
    ChatBody,
    CompletionBody,
    GenerationBody,
    TokenizeBody,
    refuse_unsupported,
)
from probe_engine.server.wishes import read_wishes

LONG_TEXT_CHARACTERS = 8192  # longer ones are tokenised off the event loop
CLIENT_GONE = 499


def openai_routes(deployment: Deployment) -> APIRouter:
    """The routes, serving ``deployment``."""
    routes = APIRouter()

    @routes.post("/v1/completions")
    async def completions(body: CompletionBody, request: Request) -> Response:
        """Continue one or more prompts."""
        arrival_s = time.monotonic()
        served = _admit(deployment, body)
        prompts = [await _encoded(served, prompt, path) for path, prompt in _prompts(body)]
        limit = body.max_tokens or COMPLETION_MAX_TOKENS
        return await _generate(deployment, body, request, prompts, [limit] * len(prompts), "text_completion", arrival_s)

    @routes.post("/v1/chat/completions")
    async def chat(body: ChatBody, request: Request) -> Response:
        """Answer a conversation."""
        arrival_s = time.monotonic()
        served = _admit(deployment, body)
        prompt = await _chat_prompt(served, [message.plain() for message in body.messages])
        limit = body.max_completion_tokens or body.max_tokens or max(1, served.max_model_len - len(prompt))
        return await _generate(deployment, body, request, [prompt], [limit], "chat", arrival_s)

    @routes.get("/v1/models")
    async def models() -> Response:
        """The one model that is served."""
        return JsonAnswer({"object": "list", "data": [_model(deployment)]})

    @routes.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        """The model of this name."""
        _check_model(deployment, name)
        return JsonAnswer(_model(deployment))

    @routes.post("/tokenize")
    async def tokenize(body: TokenizeBody) -> Response:
        """Token ids of a prompt or a conversation."""
        served = deployment.served
        _check_model(deployment, body.model)
        if (body.prompt is None) == (body.messages is None):
            raise ApiError(400, "give either prompt or messages", param="prompt")
        if body.messages is not None:
            tokens = await _chat_prompt(served, [message.plain() for message in body.messages])
        else:
            tokens = await _encode(served, body.prompt or "", "prompt")
        return JsonAnswer({"count": len(tokens), "max_model_len": served.max_model_len, "tokens": tokens})

    return routes


def _admit(deployment: Deployment, body: GenerationBody) -> Served:
    served = deployment.served
    _check_model(deployment, body.model)
    refuse_unsupported(body)
    return served


def _check_model(deployment: Deployment, name: str | None) -> None:
    if name is not None and name != deployment.model_name:
        raise ApiError(
            404,
            f"the model {name!r} does not exist; this server has {deployment.model_name!r}",
            param="model",
            code="model_not_found",
            reason="unknown_model",
        )


def _model(deployment: Deployment) -> dict[str, Any]:
    return {
        "id": deployment.model_name,
        "object": "model",
        "created": deployment.created,
        "owned_by": "loadline",
        "max_model_len": deployment.served.max_model_len,
    }


def _prompts(body: CompletionBody) -> list[tuple[str, str | list[int]]]:
    """Each prompt with its path in the body."""
    prompt = body.prompt
    if isinstance(prompt, str):
        return [("prompt", prompt)]
    if not prompt:
        raise ApiError(400, "prompt: it is empty; at least one token is needed", param="prompt")
    if isinstance(prompt[0], int):
        return [("prompt", prompt)]
    return [(f"prompt[{at}]", cast("str | list[int]", one)) for at, one in enumerate(prompt)]


async def _encoded(served: Served, prompt: str | list[int], path: str) -> list[int]:
    ids = await _encode(served, prompt, path) if isinstance(prompt, str) else prompt
    if not ids:
        raise ApiError(400, f"{path}: it is empty; at least one token is needed", param=path)
    vocabulary = served.loaded.tokeniser.vocab_size
    if not isinstance(prompt, str) and max(ids) >= vocabulary:
        at, wrong = next((at, token) for at, token in enumerate(ids) if token >= vocabulary)
        raise ApiError(
            400, f"{path}[{at}]: token {wrong} is not in the vocabulary of {vocabulary} tokens", param=f"{path}[{at}]"
        )
    return ids


async def _encode(served: Served, text: str, path: str) -> list[int]:
    _check_text(text, path)
    encode = served.loaded.tokeniser.encode
    return await asyncio.to_thread(encode, text) if len(text) > LONG_TEXT_CHARACTERS else encode(text)


def _check_text(text: str, path: str) -> None:
    """JSON can spell half a surrogate pair, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ApiError(400, f"{path}: character {error.start} is half of a surrogate pair", param=path) from error


async def _chat_prompt(served: Served, messages: Sequence[dict[str, str]]) -> list[int]:
    for at, message in enumerate(messages):
        _check_text(message["role"] + message["content"], f"messages[{at}]")
    render = served.loaded.tokeniser.chat_prompt
    long = sum(len(message["content"]) for message in messages) > LONG_TEXT_CHARACTERS
    try:
        return await asyncio.to_thread(render, messages) if long else render(messages)
    except ModelError as error:
        raise ApiError(400, f"messages: {error}", param="messages") from error


async def _generate(
    deployment: Deployment,
    body: GenerationBody,
    request: Request,
    prompts: Sequence[list[int]],
    limits: Sequence[int],
    operation: Operation,
    arrival_s: float,
) -> Response:
    served = deployment.served
    answer_id = _answer_id(deployment, request.state.request_id, operation)
    choices = body.n or 1
    samplings = [_sampling(body, choice, served) for choice in range(choices)]
    wishes = read_wishes(request.headers, arrival_s)
    several = len(prompts) * choices > 1

    def name(at: int) -> str:
        return f"{answer_id}-{at}" if several else answer_id

    generations = [
        Generation(
            name(at * choices + choice),
            prompt,
            limit,
            arrival_s,
            sampling,
            body.stop_texts(),
            bool(body.ignore_eos),
            operation,
            request.headers.get("traceparent"),
            min_tokens=_min_tokens(body, limit),
            priority=wishes.priority if body.priority is None else body.priority,
            tenant=wishes.tenant,
            deadline_s=wishes.deadline_s,
            after=name(at * choices) if choice else None,
            stop_token_ids=frozenset(body.stop_token_ids or ()),
        )
        for at, (prompt, limit) in enumerate(zip(prompts, limits, strict=True))
        for choice, sampling in enumerate(samplings)
    ]
    stream = _submit(served, generations)
    head = Head(answer_id, deployment.model_name, int(time.time()), operation, wishes.timing)
    usage = Usage(sum(map(len, prompts)), choices_per_prompt=choices)
    text_of = served.loaded.tokeniser.token_text
    if not body.stream:
        return await _answer(request, stream, head, usage, text_of)
    options = body.stream_options
    chunks = Chunks(
        head,
        usage,
        text_of,
        include_usage=bool(options and options.include_usage),
        continuous=bool(options and options.continuous_usage_stats),
    )
    return EventStream(stream, chunks)


def _min_tokens(body: GenerationBody, limit: int) -> int:
    least = body.min_tokens or 0
    if least > limit:
        raise ApiError(400, f"min_tokens is {least}; it must be at most max_tokens ({limit})", param="min_tokens")
    return least


def _submit(served: Served, generations: Sequence[Generation]) -> OutputStream:
    try:
        return served.engine.submit(generations)
    except RequestRefused as error:
        param = "max_tokens" if error.limit == "max_tokens" else "prompt"
        code = "context_length_exceeded" if error.limit == "max_model_len" else None
        raise ApiError(400, str(error), param=param, code=code, reason="too_long") from error
    except QueueFull as error:
        raise ApiError(
            429,
            str(error),
            kind="rate_limit_error",
            code="queue_full",
            reason="queue_full",
            retry_after_s=error.retry_after_s,
        ) from error
    except Stopping as error:
        raise ApiError(503, str(error), kind="server_error", code="stopping", reason="not_ready") from error


async def _answer(request: Request, stream: OutputStream, head: Head, usage: Usage, text_of: TextOf) -> Response:
    choices = [Choice() for _ in stream.index]
    watcher = asyncio.create_task(close_on_disconnect(stream, request.receive))
    try:
        async for batch in stream:
            failed = gather(choices, usage, [(stream.index[output.request_id], output) for output in batch])
            if failed is not None:
                status = 504 if failed.finish_reason is FinishReason.DEADLINE else 500
                raise ApiError(status, failed.error or "", kind="server_error", code=error_code(failed))
    finally:
        watcher.cancel()
        stream.close()
    if any(choice.request is None for choice in choices):
        return JsonAnswer(None, CLIENT_GONE)
    return JsonAnswer(whole_answer(head, choices, usage, text_of))


def _answer_id(deployment: Deployment, request_id: str, operation: Operation) -> str:
    """The caller's id with OpenAI's prefix; numbered where a request of that id is being served already."""
    plain = ("cmpl-" if operation == "text_completion" else "chatcmpl-") + request_id
    engine = deployment.served.engine
    if not engine.in_use(plain) and not engine.in_use(f"{plain}-0"):
        return plain
    deployment.ids_made += 1
    return f"{plain}.{deployment.ids_made}"


def _sampling(body: GenerationBody, choice: int, served: Served) -> SamplingParams:
    """How the tokens of one choice are chosen; with a seed, each choice has its own, counted up from it."""
    top_k = body.top_k if body.top_k and body.top_k > 0 else None  # vLLM's clients write "off" as 0 or -1
    bias = tuple((int(token), value) for token, value in (body.logit_bias or {}).items())
    vocabulary = served.loaded.tokeniser.vocab_size
    wrong = next((token for token, _ in bias if token >= vocabulary), None)
    if wrong is not None:
        raise ApiError(
            400, f"logit_bias: token {wrong} is not in the vocabulary of {vocabulary} tokens", param="logit_bias"
        )
    return SamplingParams(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        top_k=top_k,
        seed=None if body.seed is None else (body.seed + choice + 2**63) % 2**64 - 2**63,
        min_p=body.min_p or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        repetition_penalty=1.0 if body.repetition_penalty is None else body.repetition_penalty,
        logit_bias=bias,
        min_tokens=0 if body.ignore_eos else body.min_tokens or 0,
        logprobs=body.rivals,
    )
