"""All that is passed on: a queue, a sender and a tap for each destination of the settings."""

import asyncio
import hashlib
import re
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import httpx
from google.protobuf.message import Message

from collector.forward.otlp import OtlpOut, enqueue
from collector.forward.queue import DiskQueue
from collector.forward.remote_write import RemoteWriteOut, Samples
from collector.forward.sender import FLUSH_S, Sender
from collector.forward.settings import Destination, ForwardSettings, without_user
from collector.forward.tee import Tee
from collector.model.labels import Labels
from collector.store import Store


class Forwarding:
    """Destinations of one collector; queues lie in ``folder``. Raises StoreError where one cannot be opened.

    ``external`` labels are given to every sample that lacks them.

    Read by others: ``senders``.
    """

    def __init__(
        self,
        settings: ForwardSettings,
        folder: Path,
        http: httpx.AsyncClient,
        external: Labels = (),
        flush_s: float = FLUSH_S,
    ) -> None:
        self.senders: list[Sender] = []
        self._queues = ExitStack()
        self._samples: list[Samples] = []
        self._otlp: list[DiskQueue] = []
        for to in settings.remote_write:
            queue = self._open(folder, to)
            self._samples.append(Samples(queue, to.rules, to.max_samples, external))
            wire = RemoteWriteOut(to.url, to.max_samples)
            self.senders.append(Sender(without_user(to.url), queue, wire, http, to.token_file, flush_s=flush_s))
        for backend in settings.otlp:
            queue = self._open(folder, backend)
            self._otlp.append(queue)
            sender = Sender(
                without_user(backend.url), queue, OtlpOut(backend.url), http, backend.token_file, flush_s=flush_s
            )
            self.senders.append(sender)

    def tee(self, store: Store) -> Tee:
        """What to write samples to, so that they are kept and passed on."""
        return Tee(store, self._samples)

    def pass_on(self, signal: str, request: Message) -> None:
        """Queue one OTLP request for every backend."""
        for queue in self._otlp:
            enqueue(queue, signal, request)

    async def run(self, stop: asyncio.Event) -> None:
        """Send until ``stop`` is set."""
        await asyncio.gather(stop.wait(), *(sender.run(stop) for sender in self.senders))

    def close(self) -> None:
        """Close the queues; what waits in them is sent after the next start."""
        self._queues.close()

    def __enter__(self) -> "Forwarding":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, folder: Path, to: Destination) -> DiskQueue:
        return self._queues.enter_context(DiskQueue(folder / file_of(to.url), to.queue_bytes, to.queue_age_s))


def file_of(url: str) -> str:
    """A file name for an address, the same at every start."""
    readable = re.sub(r"[^a-zA-Z0-9.]+", "-", without_user(url)).strip("-")[:80]
    return f"{readable}-{hashlib.sha256(url.encode()).hexdigest()[:8]}.db"
