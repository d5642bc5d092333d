"""NVIDIA's management library as a ``GpuReader``."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pynvml

from collector.gpu.reader import GpuError, GpuReading

Value = TypeVar("Value")


class Nvml:
    """Reads every NVIDIA GPU; raises GpuError at once where the driver or its library is absent."""

    def __init__(self) -> None:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise GpuError(str(error)) from error

    def read(self) -> Sequence[GpuReading]:
        """Every GPU now; raises GpuError."""
        try:
            return [_read(index) for index in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError as error:
            raise GpuError(str(error)) from error

    def close(self) -> None:
        """Let go of the library."""
        pynvml.nvmlShutdown()


def _read(index: int) -> GpuReading:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = _known(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
    busy = _known(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    milliwatts = _known(lambda: pynvml.nvmlDeviceGetPowerUsage(handle))
    return GpuReading(
        index=index,
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        utilization_ratio=None if busy is None else busy / 100,
        memory_used_bytes=None if memory is None else int(memory.used),
        memory_total_bytes=None if memory is None else int(memory.total),
        temperature_celsius=_known(lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
        power_watts=None if milliwatts is None else milliwatts / 1000,
    )


def _known(ask: Callable[[], Value]) -> Value | None:
    """What the driver answers, or None where this GPU has no such figure; other failures go on."""
    try:
        return ask()
    except pynvml.NVMLError as error:
        if error.value in (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION):
            return None
        raise


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
