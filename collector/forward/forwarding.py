"""All that is passed on: a queue, a sender and a tap for each destination of the settings, which may change."""

import asyncio
import hashlib
import logging
import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import httpx
from google.protobuf.message import Message

from collector.forward.otlp import OtlpOut, enqueue
from collector.forward.queue import DiskQueue
from collector.forward.remote_write import RemoteWriteOut, Samples
from collector.forward.retry import OTLP_RETRIED, Patience
from collector.forward.sender import FLUSH_S, Sender, Wire
from collector.forward.settings import Destination, ForwardSettings, without_user
from collector.forward.tee import Tee
from collector.model.labels import Labels
from collector.model.remote_write_2 import MESSAGE as MESSAGE_2
from collector.model.write_shape import WrittenMetadata
from collector.scrape.access import Access
from collector.store import Store

_log = logging.getLogger(__name__)


Key = tuple[str, Destination, Labels]
"""Protocol, destination and external labels: what makes a route another one."""


@dataclass(eq=False, slots=True)
class _Route:
    """One destination at work; it begins once the one ``before`` it, of the same queue, has ended."""

    key: Key
    queue: DiskQueue
    sender: Sender
    http: httpx.AsyncClient
    samples: Samples | None
    before: "_Route | None" = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Forwarding:
    """Destinations of one collector; queues lie in ``folder``.

    ``open_http`` makes the connections for an access. Read by others: ``senders``, the same list for ever.
    """

    def __init__(
        self, folder: Path, open_http: Callable[[Access], httpx.AsyncClient], flush_s: float = FLUSH_S
    ) -> None:
        self.senders: list[Sender] = []
        self._folder, self._open_http, self._flush_s = folder, open_http, flush_s
        self._routes: dict[str, _Route] = {}
        self._samples: list[Samples] = []
        self._described: dict[str, WrittenMetadata] = {}
        self._otlp: list[DiskQueue] = []
        self._tasks: asyncio.TaskGroup | None = None

    def apply(self, settings: ForwardSettings, external: Labels = ()) -> None:
        """Follow settings; destinations that stay go on undisturbed. What waits for one that is gone stays on disk.

        ``external`` labels are given to every sample that lacks them. Raises StoreError where a queue cannot be opened,
        ConfigError where a certificate cannot be used; then nothing has changed.
        """
        keys: list[Key] = [("remote_write", to, external) for to in settings.remote_write]
        keys += [("otlp", to, ()) for to in settings.otlp]
        with ExitStack() as undo:
            routes = {key[1].url: self._route(key, undo) for key in keys}
            undo.pop_all()
        ended = [route for url, route in self._routes.items() if routes.get(url) is not route]
        begun = [route for url, route in routes.items() if self._routes.get(url) is not route]
        self._routes = routes
        self._samples[:] = [route.samples for route in routes.values() if route.samples is not None]
        self._otlp[:] = [route.queue for route in routes.values() if route.samples is None]
        self.senders[:] = [route.sender for route in routes.values()]
        for route in ended:
            route.stop.set()
            if route.task is None and not self._is_used(route.queue):
                route.queue.close()
        self._begin(begun)

    def tee(self, store: Store) -> Tee:
        """What to write samples to, so that they are kept and passed on."""
        return Tee(store, self._samples, self._described)

    def pass_on(self, signal: str, request: Message) -> None:
        """Queue one OTLP request for every backend."""
        for queue in tuple(self._otlp):
            enqueue(queue, signal, request)

    async def run(self, stop: asyncio.Event) -> None:
        """Send until ``stop`` is set."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._begin(self._routes.values())
            await stop.wait()
            self._tasks = None
            for route in self._routes.values():
                route.stop.set()

    def close(self) -> None:
        """Close the queues; what waits in them is sent after the next start."""
        for route in self._routes.values():
            route.queue.close()

    def __enter__(self) -> "Forwarding":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _route(self, key: Key, undo: ExitStack) -> _Route:
        """The route that is there, or a new one over the queue of its address."""
        protocol, to, external = key
        before = self._routes.get(to.url)
        if before is not None and before.key == key:
            return before
        http = self._open_http(to.access)
        if before is None:
            queue = undo.enter_context(DiskQueue(self._folder / file_of(to.url), to.queue_bytes, to.queue_age_s))
        else:
            queue = before.queue
            queue.limit(to.queue_bytes, to.queue_age_s)
        described = self._described if to.metadata.send else {}
        wire: Wire = OtlpOut(to.url)
        samples, patience = None, Patience(retried=OTLP_RETRIED)
        if protocol == "remote_write":
            wire = RemoteWriteOut(to.url, to.max_samples, to.message, described)
            queued = {} if to.message == MESSAGE_2 else described
            samples = Samples(queue, to.rules, to.max_samples, external, to.exemplars, queued, to.metadata)
            patience = to.patience
        name, flush_s = to.name or without_user(to.url), to.flush_s or self._flush_s
        sender = Sender(name, queue, wire, http, to.access, to.timeout_s, flush_s, to.headers, patience=patience)
        return _Route(key, queue, sender, http, samples, before)

    def _begin(self, routes: Iterable[_Route]) -> None:
        if self._tasks is not None:
            for route in routes:
                route.task = self._tasks.create_task(self._send(route))

    async def _send(self, route: _Route) -> None:
        before, route.before = route.before, None
        if before is not None and before.task is not None:
            await before.task
        try:
            await route.sender.run(route.stop)
        finally:
            await route.http.aclose()
        if not self._is_used(route.queue):
            route.queue.close()
            _log.info("forwarding to %s ended; what waits stays in %s", route.sender.name, self._folder)

    def _is_used(self, queue: DiskQueue) -> bool:
        return any(route.queue is queue for route in self._routes.values())


def file_of(url: str) -> str:
    """A file name for an address, the same at every start."""
    readable = re.sub(r"[^a-zA-Z0-9.]+", "-", without_user(url)).strip("-")[:80]
    return f"{readable}-{hashlib.sha256(url.encode()).hexdigest()[:8]}.db"
