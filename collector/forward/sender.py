"""Send what waits in a queue to one destination, again and again until it is taken or refused."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import httpx

from collector.forward.queue import Batch, DiskQueue
from collector.forward.retry import USUAL, Patience, Verdict
from collector.model.errors import ConfigError, StoreError
from collector.scrape.access import OPEN, Access

FLUSH_S = 1.0
"""How long a batch that is not full may wait for more."""

TIMEOUT_S = 30.0
MAX_SAID = 300
"""Characters of an answer that are told."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Post:
    """One request."""

    url: str
    body: bytes
    headers: dict[str, str]


class Wire(Protocol):
    """How a batch becomes a request."""

    max_items: int
    max_bytes: int

    def post(self, batch: Batch) -> Post:
        """The request of one batch; StoreError where what was queued is damaged."""
        ...

    def heard(self, batch: Batch, answer: httpx.Response) -> "Heard":
        """What the receiver says of a batch."""
        ...


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer's words, and how many items of a request that was taken the receiver left out."""

    said: str = ""
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one request; ``reason`` says why it, or some of it, was not taken."""

    verdict: Verdict
    reason: str = ""
    retry_after: str = ""
    left_out: int = 0


class Sender:
    """One destination. Run ``run`` once.

    Read by others: ``name``, ``queue``; ``sent`` and ``refused`` items, ``retries``; ``trouble``, "" while all is well.
    """

    def __init__(
        self,
        name: str,
        queue: DiskQueue,
        wire: Wire,
        http: httpx.AsyncClient,
        access: Access = OPEN,
        timeout_s: float = TIMEOUT_S,
        flush_s: float = FLUSH_S,
        headers: Sequence[tuple[str, str]] = (),
        now_s: Callable[[], float] = time.time,
        patience: Patience = USUAL,
    ) -> None:
        self.name = name
        self.queue = queue
        self.sent = self.refused = self.retries = 0
        self.trouble = ""
        self._wire, self._http, self._access, self._headers = wire, http, access, dict(headers)
        self._timeout_s, self._flush_s, self._now_s, self._patience = timeout_s, flush_s, now_s, patience
        self._failures = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Send until ``stop`` is set; what is not sent by then waits on disk."""
        while not stop.is_set():
            try:
                wait_s = await self.step()
            except StoreError as error:
                self._tell(str(error))
                wait_s = self._patience.delay_s(1, "", 0.0)
            if wait_s:
                try:
                    await asyncio.wait_for(stop.wait(), wait_s)
                except TimeoutError:
                    continue

    async def step(self) -> float:
        """Send one batch, if there is one, and return how long to wait before the next. Raises StoreError."""
        wire = self._wire
        batch = await asyncio.to_thread(self.queue.peek, wire.max_items, wire.max_bytes)
        if batch is None:
            return self._flush_s
        attempt = await self._send(batch)
        if attempt.verdict == "retry":
            self._failures += 1
            self.retries += 1
            self._tell(attempt.reason)
            return self._patience.delay_s(self._failures, attempt.retry_after, self._now_s())
        self._failures = 0
        refused = batch.items if attempt.verdict == "refused" else min(attempt.left_out, batch.items)
        self.refused += refused
        self.sent += batch.items - refused
        self._tell(attempt.reason)
        await asyncio.to_thread(self.queue.done, batch.last_id)
        waiting = await asyncio.to_thread(self.queue.stats)
        return 0.0 if waiting.records else self._flush_s

    async def _send(self, batch: Batch) -> Attempt:
        try:
            post = await asyncio.to_thread(self._wire.post, batch)
        except StoreError as error:
            return Attempt("refused", str(error))
        try:
            headers = self._headers | post.headers | await asyncio.to_thread(self._access.headers)
            answer = await self._http.post(
                post.url,
                content=post.body,
                headers=headers,
                timeout=self._timeout_s,
                follow_redirects=False,
                extensions=self._access.extensions(),
            )
        except ConfigError as error:  # a file of credentials, or a token that is not given
            return Attempt("retry", str(error))
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return Attempt("retry", f"cannot be reached: {str(error) or type(error).__name__}")
        verdict = self._patience.judge(answer.status_code)
        heard = self._wire.heard(batch, answer)
        if verdict == "sent":
            return Attempt(verdict, heard.said, left_out=heard.left_out)
        said = " ".join(heard.said[:MAX_SAID].split())
        reason = f"answers {answer.status_code}{': ' if said else ''}{said}"
        return Attempt(verdict, reason, answer.headers.get("retry-after", ""))

    def _tell(self, trouble: str) -> None:
        if trouble and not self.trouble:
            _log.warning("forwarding to %s: %s", self.name, trouble)
        elif self.trouble and not trouble:
            _log.info("forwarding to %s: works again", self.name)
        self.trouble = trouble
