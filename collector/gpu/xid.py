"""Count the Xid errors that the driver reports: NVML tells them only to somebody who waits, so a thread does."""

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from ctypes import c_void_p, cast
from typing import Any

import pynvml

WAIT_MS = 500
"""How long one wait lasts; stopping takes as long."""

COMMON_XIDS = (13, 31, 43, 45, 48, 63, 64, 74, 79, 94, 95, 119, 120)
"""Codes that are counted from 0, so that a rate sees the first of them; others appear when they happen."""

_log = logging.getLogger(__name__)


class XidWatch:
    """Waits for Xid errors of ``handles`` (by GPU index) in a thread of its own until it is stopped."""

    def __init__(self, handles: Mapping[int, Any], wait_ms: int = WAIT_MS) -> None:
        self._wait_ms = wait_ms
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._events, self._addresses = _registered(handles)
        self._counts = {index: Counter(dict.fromkeys(COMMON_XIDS, 0)) for index in self._addresses.values()}
        self._thread = threading.Thread(target=self._watch, name="xid", daemon=True) if self._addresses else None
        if self._thread is not None:
            self._thread.start()

    def counts(self, index: int) -> dict[int, int]:
        """Xid errors of one GPU so far, by code; empty where they cannot be seen."""
        with self._lock:
            return dict(self._counts.get(index, {}))

    def stop(self) -> None:
        """End the thread and let go of the events."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        if self._events is not None:
            pynvml.nvmlEventSetFree(self._events)

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                event = pynvml.nvmlEventSetWait_v2(self._events, self._wait_ms)
            except pynvml.NVMLError as error:
                if error.value == pynvml.NVML_ERROR_TIMEOUT:
                    continue
                _log.warning("Xid errors can no longer be seen: %s", error)
                return
            if event.eventType & pynvml.nvmlEventTypeXidCriticalError:
                self._take(self._addresses.get(_address(event.device)), int(event.eventData))

    def _take(self, index: int | None, xid: int) -> None:
        if index is None:
            _log.warning("the driver reports Xid %d of a GPU that is not known", xid)
            return
        _log.warning("GPU %d reports Xid %d", index, xid)
        with self._lock:
            self._counts[index][xid] += 1


def _registered(handles: Mapping[int, Any]) -> tuple[Any, dict[int, int]]:
    """An event set with those GPUs that report Xid errors, and their indices by handle; None where NVML has none."""
    try:
        events = pynvml.nvmlEventSetCreate()
    except pynvml.NVMLError as error:
        _log.info("Xid errors cannot be seen: %s", error)
        return None, {}
    addresses: dict[int, int] = {}
    for index, handle in handles.items():
        try:
            pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, events)
        except pynvml.NVMLError as error:
            _log.info("Xid errors of GPU %d cannot be seen: %s", index, error)
        else:
            addresses[_address(handle)] = index
    return events, addresses


def _address(handle: Any) -> int:
    """What tells handles apart: NVML gives the same pointer for the same GPU."""
    return int(cast(handle, c_void_p).value or 0)
