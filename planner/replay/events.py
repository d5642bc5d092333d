"""Reads the events of one streamed answer off its bytes."""

from typing import Any

import orjson

from planner.replay.exchange import Exchange, error_message

DATA = b"data:"
DONE = b"[DONE]"


class EventReader:
    """Puts what a stream tells into an exchange; every event of a token counts as one, however little text it has."""

    __slots__ = ("_exchange", "_finished", "_rest")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._rest = b""
        self._finished = False

    def feed(self, chunk: bytes, now: float) -> None:
        """The next bytes, which came at ``now``."""
        *lines, self._rest = (self._rest + chunk if self._rest else chunk).split(b"\n")
        for line in lines:
            if line.startswith(DATA):
                self._take(line[5:], now)

    def end(self) -> None:
        """The stream is over: without [DONE] that is well only after a finish reason."""
        exchange = self._exchange
        if exchange.status == "unfinished":
            if self._finished:
                exchange.status = "ok"
            elif self._rest[:1] == b"{":
                exchange.status, exchange.error = "error", "the server answered without streaming"
            else:
                exchange.status, exchange.error = "error", "the stream ended without [DONE]"

    def _take(self, data: bytes, now: float) -> None:
        exchange = self._exchange
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            if data.strip() != DONE:
                exchange.status, exchange.error = "error", f"the stream holds what is no JSON: {data.strip()[:80]!r}"
            elif exchange.status == "unfinished":
                exchange.status = "ok"
            return
        if not isinstance(event, dict):
            exchange.status, exchange.error = "error", f"the stream holds what is no event: {data.strip()[:80]!r}"
            return
        if "error" in event:
            exchange.status, exchange.error = "error", error_message(data)
        choices = event.get("choices")
        if choices:
            choice = choices[0]
            going = choice.get("finish_reason") is None
            if _is_token(choice, going=going):
                exchange.token_times_s.append(now)
            if exchange.answer is not None:
                exchange.answer.append(choice.get("text") or (choice.get("delta") or {}).get("content") or "")
            if not going:
                self._finished = True
        if usage := event.get("usage"):
            exchange.input_tokens = usage.get("prompt_tokens")
            exchange.output_tokens = usage.get("completion_tokens")
            exchange.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")


def _is_token(choice: dict[str, Any], *, going: bool) -> bool:
    """A chat's first event may name the role only; its last, like a completion's, may carry no token."""
    delta = choice.get("delta")
    if delta is None:
        return bool(choice.get("text")) or going
    said = delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning") or delta.get("tool_calls")
    return bool(said) or (going and "role" not in delta)
