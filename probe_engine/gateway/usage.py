"""How many tokens an answer used, told from the answer itself."""

import re

import orjson

TOTAL = re.compile(rb'"total_tokens"\s*:\s*(\d+)')
TAIL_BYTES = 4096  # a usage object fits in it
EVENT = b"data: {"


def whole_usage(body: bytes) -> int | None:
    """``usage.total_tokens`` of an answer that is not streamed."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    usage = answer.get("usage") if isinstance(answer, dict) else None
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    return total if isinstance(total, int) and not isinstance(total, bool) else None


class AnswerUsage:
    """Counts one answer as it passes; a server-sent event without usage counts as a token."""

    __slots__ = ("_tail", "_whole", "events")

    def __init__(self) -> None:
        self.events = 0
        self._whole: int | None = None
        self._tail = b""

    def take_whole(self, body: bytes) -> None:
        """The whole body of an answer that is not streamed."""
        self._whole = whole_usage(body)

    def feed(self, chunk: bytes) -> None:
        """The next bytes of a stream."""
        self.events += (self._tail[-len(EVENT) + 1 :] + chunk).count(EVENT)
        self._tail = (self._tail + chunk)[-TAIL_BYTES:]

    def tokens(self, prompt_tokens: int) -> int:
        """Tokens used: what the usage says, else the prompt's and one for each event; 0 before any answer."""
        if self._whole is not None:
            return self._whole
        if not self.events:
            return 0
        found = TOTAL.findall(self._tail)
        return int(found[-1]) if found else prompt_tokens + self.events
