"""What the gateway does to a replica beyond routing: tell it a batch limit, run the command that restarts it."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from probe_engine.gateway.errors import Refused
from probe_engine.gateway.replica import Replica

log = logging.getLogger(__name__)

TELL_LIMIT_S = 5.0
RESTART_LIMIT_S = 600.0
LAST_WORDS_CHARACTERS = 200


class Operations:
    """batch_limits: what each replica was told last. restarts: how each replica's last restart went.

    session: gives the connections once there are any. headers: what replicas want to be shown. restart_command: run by
    the shell of the operator's choosing with ``LOADLINE_REPLICA`` set to the URL; empty: replicas are not restarted.
    """

    def __init__(
        self,
        session: Callable[[], aiohttp.ClientSession | None],
        headers: Mapping[str, str],
        restart_command: tuple[str, ...],
    ) -> None:
        self.batch_limits: dict[str, int] = {}
        self.restarts: dict[str, dict[str, Any]] = {}
        self._session = session
        self._headers = headers
        self._command = restart_command
        self._running: dict[str, asyncio.Task[None]] = {}

    async def limit_batch(self, replica: Replica, most: int | None) -> None:
        """Tell the engine at ``replica``; raises ``Refused`` (400, 502) with what it answers."""
        session = self._session()
        if session is None:
            raise _failed("the gateway is starting", 503)
        timeout = aiohttp.ClientTimeout(total=TELL_LIMIT_S)
        try:
            async with session.post(
                f"{replica.name}/admin/limits", json={"max_num_seqs": most}, headers=self._headers, timeout=timeout
            ) as answer:
                told = (await answer.text())[:LAST_WORDS_CHARACTERS]
                status = answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _failed(f"{replica.name} could not be told: {error!r}", 502) from error
        if status != 200:
            raise _failed(f"{replica.name} answered {status} to the batch limit: {told}", 400 if status == 400 else 502)
        if most is None:
            self.batch_limits.pop(replica.name, None)
        else:
            self.batch_limits[replica.name] = most

    def restart(self, replica: Replica) -> None:
        """Begin a restart, unless one runs; raises ``Refused`` (409) without a command."""
        if not self._command:
            raise _failed("the gateway has no --restart-command", 409)
        running = self._running.get(replica.name)
        if running is not None and not running.done():
            return
        self.restarts[replica.name] = {"state": "running"}
        self._running[replica.name] = asyncio.create_task(self._restart(replica))

    async def stop(self) -> None:
        """End what runs."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _restart(self, replica: Replica) -> None:
        state = {"state": "failed", "why": "stopped with the gateway"}
        try:
            state = await self._run(replica)
        except (OSError, TimeoutError) as error:
            state = {"state": "failed", "why": str(error) or f"took longer than {RESTART_LIMIT_S:g} s"}
        finally:
            self.restarts[replica.name] = state
            log.warning("restart of %s: %s", replica.name, state)

    async def _run(self, replica: Replica) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            env={**os.environ, "LOADLINE_REPLICA": replica.name},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, told = await asyncio.wait_for(process.communicate(), RESTART_LIMIT_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            words = told.decode("utf-8", "replace").strip()[-LAST_WORDS_CHARACTERS:]
            return {"state": "failed", "why": f"exit code {process.returncode}: {words}"}
        return {"state": "done"}


def _failed(message: str, status: int) -> Refused:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return Refused(status, message, kind=kind, code="admin", reason="admin")
