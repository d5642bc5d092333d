"""What the server serves, and how far it is: loading, ready, failed or stopping."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Thread
from typing import Any, Protocol

from probe_engine.errors import ApiError
from probe_engine.runtime.async_engine import AsyncEngine
from probe_engine.runtime.engine import Engine
from probe_engine.runtime.generation import Generation, TokenOutput
from probe_engine.runtime.promises import Detokeniser
from probe_engine.telemetry.metrics import EngineMetrics

RETRY_WHILE_LOADING_S = 2


class Tokeniser(Detokeniser, Protocol):
    """What the server needs of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Token ids are below it."""

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``."""

    def token_text(self, token_id: int) -> str:
        """Text of one token, specials included."""

    def chat_prompt(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Token ids of a conversation, up to where the assistant is to speak."""


class FinishedListener(Protocol):
    """Told of every request that ended, on the event loop's thread (the tracer)."""

    def finished(self, generation: Generation, output: TokenOutput) -> str | None:
        """``generation`` ended with ``output``; the id of its trace, where it has one."""

    def started(self, phases_s: Mapping[str, float]) -> None:
        """The model is ready after these phases, one after the other, of which the last has just ended."""

    def close(self) -> None:
        """Nothing more will end."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to serve. ``shape`` describes it for ``/metadata``; ``phases_s`` is how long loading took."""

    engine: Engine
    tokeniser: Tokeniser
    dtype: str
    device: str
    shape: Mapping[str, object] = field(default_factory=dict)
    phases_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Served:
    """A loaded model and the thread that runs it."""

    loaded: Loaded
    engine: AsyncEngine

    @property
    def max_model_len(self) -> int:
        """Most tokens of one request, prompt and output."""
        return self.engine.engine.scheduler.config.max_model_len


class Deployment:
    """One model under one name; nothing until ``load`` has finished.

    version: of the program. max_queue: most requests that may wait.
    """

    def __init__(
        self,
        model_name: str,
        metrics: EngineMetrics,
        *,
        version: str,
        max_queue: int = 1024,
        listener: FinishedListener | None = None,
    ) -> None:
        self.model_name = model_name
        self.metrics = metrics
        self.version = version
        self.max_queue = max_queue
        self.created = int(time.time())
        self.ids_made = 0
        self._listener = listener
        self._served: Served | None = None
        self._stopped = False

    @property
    def served(self) -> Served:
        """The model; raises ``ApiError`` (503) while it loads."""
        if self._served is None:
            raise ApiError(
                503,
                f"the model {self.model_name!r} is still loading",
                kind="server_error",
                code="not_ready",
                reason="not_ready",
                retry_after_s=RETRY_WHILE_LOADING_S,
            )
        return self._served

    @property
    def ready(self) -> bool:
        """Whether requests are served."""
        return self._served is not None and self._served.engine.lost is None

    async def load(self, load: Callable[[], Loaded]) -> None:
        """Run ``load`` in a daemon thread (an interrupted start need not wait for it), then start serving.

        Raises what ``load`` raises.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Loaded] = loop.create_future()

        def run() -> None:
            try:
                _tell(loop, done, load())
            except Exception as error:
                _tell(loop, done, error)

        Thread(target=run, name="load", daemon=True).start()
        self.serve(await done)

    def serve(self, loaded: Loaded) -> None:
        """Serve ``loaded`` from now on; on the event loop's thread."""
        engine = AsyncEngine(
            loaded.engine,
            max_queue=self.max_queue,
            on_finished=None if self._listener is None else self._finished,
        )
        if self._listener is not None and loaded.phases_s:
            self._listener.started(loaded.phases_s)
        config = loaded.engine.scheduler.config
        self.metrics.constants = {
            "loadline_kv_cache_block_size_tokens": {(): config.block_size},
            "loadline_kv_cache_blocks": {(): config.num_blocks},
            "loadline_engine_info": {
                (
                    self.version,
                    loaded.dtype,
                    loaded.device,
                    str(config.max_num_batched_tokens),
                    str(config.max_num_seqs),
                    str(config.max_model_len),
                    str(config.prefix_cache).lower(),
                ): 1.0
            },
            "loadline_model_load_seconds": {(phase,): took for phase, took in loaded.phases_s.items()},
        }
        engine.start()
        self._served = Served(loaded, engine)

    def _finished(self, generation: Generation, output: TokenOutput) -> None:
        trace_id = None if self._listener is None else self._listener.finished(generation, output)
        if trace_id is not None and output.request is not None:
            self.metrics.traced(output.request, trace_id, time.time())

    async def stop(self) -> None:
        """End what is being served, then the engine's thread and the listener; a second call does nothing."""
        if self._stopped:
            return
        self._stopped = True
        if self._served is not None:
            await self._served.engine.stop()
        if self._listener is not None:
            await asyncio.to_thread(self._listener.close)


def _tell(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Loaded], outcome: Loaded | Exception) -> None:
    """Settle ``future`` from another thread, unless nobody waits for it any more."""

    def settle() -> None:
        if future.done():
            return
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)
