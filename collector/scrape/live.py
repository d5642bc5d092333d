"""The configuration in force, and its replacement by what the file says now."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from collector.model.errors import ConfigError
from collector.scrape.configuration import Configuration

_log = logging.getLogger(__name__)


async def _nothing(configuration: Configuration) -> None:
    return


class LiveConfiguration:
    """``current`` is what is scraped by; a file that cannot be used changes nothing but ``failure``.

    ``read`` gives the configuration as it is written now, ``apply`` brings it into force; both may raise ConfigError.
    ``loaded_s`` is the Unix time of the last success, None before the first.
    """

    def __init__(
        self,
        read: Callable[[], Configuration] = Configuration,
        apply: Callable[[Configuration], Awaitable[None]] = _nothing,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.current = Configuration()
        self.failure = ""
        self.loaded_s: float | None = None
        self._read = read
        self._apply = apply
        self._now_s = now_s
        self._turn = asyncio.Lock()

    async def load(self) -> None:
        """Read and apply; ConfigError, with the old configuration still in force, where that fails."""
        async with self._turn:
            try:
                configuration = await asyncio.to_thread(self._read)
                await self._apply(configuration)
            except ConfigError as error:
                self.failure = str(error)
                raise
            self.current, self.failure, self.loaded_s = configuration, "", self._now_s()
        for remark in configuration.remarks:
            _log.info("%s", remark)

    async def reload(self) -> None:
        """As ``load``, and say how it went."""
        try:
            await self.load()
        except ConfigError as error:
            _log.error("the configuration cannot be used; the one before stays in force:\n%s", error)
            raise
        _log.info("the configuration was read again: %d jobs", len(self.current.jobs))
