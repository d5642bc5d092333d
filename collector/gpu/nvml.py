"""NVIDIA's management library as a ``GpuReader``.

"Not supported" is said of single figures, and by many GPUs: such a figure is left out. A GPU that fell off the bus is
told as lost, and the others are read on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

import psutil
import pynvml

from collector.gpu.reader import GpuError, GpuProcess, GpuReading, MigInstance, NvLink, RemappedRows
from collector.gpu.xid import XidWatch

Value = TypeVar("Value")

CLOCKS = {"sm": pynvml.NVML_CLOCK_SM, "memory": pynvml.NVML_CLOCK_MEM, "graphics": pynvml.NVML_CLOCK_GRAPHICS}
THROTTLE_REASONS = {
    "idle": pynvml.nvmlClocksEventReasonGpuIdle,
    "clocks_setting": pynvml.nvmlClocksEventReasonApplicationsClocksSetting,
    "sw_power_cap": pynvml.nvmlClocksEventReasonSwPowerCap,
    "hw_slowdown": pynvml.nvmlClocksEventReasonHwSlowdown,
    "sync_boost": pynvml.nvmlClocksEventReasonSyncBoost,
    "sw_thermal_slowdown": pynvml.nvmlClocksEventReasonSwThermalSlowdown,
    "hw_thermal_slowdown": pynvml.nvmlClocksEventReasonHwThermalSlowdown,
    "hw_power_brake": pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown,
    "display_clock_setting": pynvml.nvmlClocksEventReasonDisplayClockSetting,
}
ECC_KINDS = {
    "corrected": pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED,
    "uncorrected": pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
}
ECC_COUNTINGS = {"volatile": pynvml.NVML_VOLATILE_ECC, "aggregate": pynvml.NVML_AGGREGATE_ECC}
NVLINK_ERRORS = {
    "replay": pynvml.NVML_NVLINK_ERROR_DL_REPLAY,
    "recovery": pynvml.NVML_NVLINK_ERROR_DL_RECOVERY,
    "crc_flit": pynvml.NVML_NVLINK_ERROR_DL_CRC_FLIT,
    "crc_data": pynvml.NVML_NVLINK_ERROR_DL_CRC_DATA,
}
UNKNOWN = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,  # an older driver
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    pynvml.NVML_ERROR_DEPRECATED,
    pynvml.NVML_ERROR_NO_DATA,
    pynvml.NVML_ERROR_NOT_FOUND,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,  # a link that this GPU has not
)
"""What NVML answers where this GPU or driver has no such figure."""


@dataclass(frozen=True, slots=True)
class _Device:
    """A GPU as it was found at the start."""

    index: int
    handle: Any
    uuid: str
    name: str


class Nvml:
    """Reads every NVIDIA GPU; raises GpuError at once where the driver or its library is absent."""

    def __init__(self) -> None:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise GpuError(str(error)) from error
        try:
            self._driver = _text(_known(pynvml.nvmlSystemGetDriverVersion) or "")
            self._devices = [_device(index) for index in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError as error:
            pynvml.nvmlShutdown()
            raise GpuError(str(error)) from error
        self._xids = XidWatch({device.index: device.handle for device in self._devices if device.handle is not None})

    def read(self) -> Sequence[GpuReading]:
        """Every GPU now; one that is lost says so in its reading. Raises GpuError where none can be read at all."""
        return [self._read(device) for device in self._devices]

    def close(self) -> None:
        """Let go of the library."""
        self._xids.stop()
        pynvml.nvmlShutdown()

    def _read(self, device: _Device) -> GpuReading:
        xids = self._xids.counts(device.index)
        try:
            return _reading(device, self._driver, xids)
        except pynvml.NVMLError as error:
            if error.value in (pynvml.NVML_ERROR_UNINITIALIZED, pynvml.NVML_ERROR_DRIVER_NOT_LOADED):
                raise GpuError(str(error)) from error
            return GpuReading(
                device.index,
                device.uuid,
                device.name,
                lost=str(error),
                driver_version=self._driver,
                xid_errors=xids,
            )


def _device(index: int) -> _Device:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        return _Device(index, handle, _text(pynvml.nvmlDeviceGetUUID(handle)), _text(pynvml.nvmlDeviceGetName(handle)))
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
            return _Device(index, None, "", "")
        raise


def _reading(device: _Device, driver: str, xids: Mapping[int, int]) -> GpuReading:
    if device.handle is None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
    handle = device.handle
    memory = _memory(handle)
    rates = _known(pynvml.nvmlDeviceGetUtilizationRates, handle)
    links = _nvlinks(handle)
    mig = _known(pynvml.nvmlDeviceGetMigMode, handle)  # (current, pending)
    is_split = None if mig is None else mig[0] == pynvml.NVML_DEVICE_MIG_ENABLE
    return GpuReading(
        index=device.index,
        uuid=device.uuid,
        name=device.name,
        driver_version=driver,
        utilization_ratio=None if rates is None else rates.gpu / 100,
        memory_activity_ratio=None if rates is None else rates.memory / 100,
        memory_used_bytes=None if memory is None else int(memory.used),
        memory_total_bytes=None if memory is None else int(memory.total),
        temperature_celsius=_known(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        memory_temperature_celsius=_field(handle, pynvml.NVML_FI_DEV_MEMORY_TEMP),
        temperature_margin_celsius=_margin(handle),
        power_watts=_scaled(0.001, pynvml.nvmlDeviceGetPowerUsage, handle),
        power_limit_watts=_scaled(0.001, pynvml.nvmlDeviceGetEnforcedPowerLimit, handle),
        energy_joules=_scaled(0.001, pynvml.nvmlDeviceGetTotalEnergyConsumption, handle),
        clocks_hertz=_clocks(handle),
        throttled=_throttled(handle),
        ecc_errors=_ecc(handle),
        remapped_rows=_remapped(handle),
        pcie_sent_bytes_per_s=_pcie(handle, pynvml.NVML_PCIE_UTIL_TX_BYTES),
        pcie_received_bytes_per_s=_pcie(handle, pynvml.NVML_PCIE_UTIL_RX_BYTES),
        pcie_replays=_known(pynvml.nvmlDeviceGetPcieReplayCounter, handle),
        nvlinks=links,
        xid_errors=xids,
        mig_enabled=is_split,
        mig_instances=_instances(handle) if is_split else (),
        processes=_processes(handle),
    )


def _memory(handle: Any) -> Any:
    """Version 2 tells used from reserved; an older driver has version 1 alone."""
    found = _known(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2)
    return found if found is not None else _known(pynvml.nvmlDeviceGetMemoryInfo, handle)


def _pcie(handle: Any, counter: int) -> float | None:
    """Bytes per second over the last 20 ms, for which the call waits; NVML gives KB, taken for 1,000 bytes."""
    return _scaled(1000, pynvml.nvmlDeviceGetPcieThroughput, handle, counter)


def _margin(handle: Any) -> float | None:
    """Degrees up to the slowdown, as the driver tells or, of an older one, the threshold less the temperature."""
    margin = _known(pynvml.nvmlDeviceGetMarginTemperature, handle)
    if margin is not None:
        return float(margin)
    limit = _known(pynvml.nvmlDeviceGetTemperatureThreshold, handle, pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)
    now = _known(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU)
    return None if limit is None or now is None else float(limit - now)


def _clocks(handle: Any) -> dict[str, float]:
    return {name: mhz * 1e6 for name, mhz in _each(CLOCKS, pynvml.nvmlDeviceGetClockInfo, handle).items()}


def _throttled(handle: Any) -> dict[str, bool] | None:
    bits = _known(pynvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
    if bits is None:
        bits = _known(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
    return None if bits is None else {reason: bool(bits & bit) for reason, bit in THROTTLE_REASONS.items()}


def _ecc(handle: Any) -> dict[tuple[str, str], int]:
    counts = {}
    for (kind, of_kind), (counting, of_counting) in product(ECC_KINDS.items(), ECC_COUNTINGS.items()):
        count = _known(pynvml.nvmlDeviceGetTotalEccErrors, handle, of_kind, of_counting)
        if count is not None:
            counts[kind, counting] = int(count)
    return counts


def _remapped(handle: Any) -> RemappedRows | None:
    rows = _known(pynvml.nvmlDeviceGetRemappedRows, handle)
    return None if rows is None else RemappedRows(rows[0], rows[1], bool(rows[2]), bool(rows[3]))


def _nvlinks(handle: Any) -> tuple[NvLink, ...]:
    found = []
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        state = _known(pynvml.nvmlDeviceGetNvLinkState, handle, link)
        if state is None:
            break
        found.append(_nvlink(handle, link, bool(state)))
    return tuple(found)


def _nvlink(handle: Any, link: int, is_up: bool) -> NvLink:
    sent = _field(handle, pynvml.NVML_FI_DEV_NVLINK_COUNT_XMIT_BYTES, link)
    received = _field(handle, pynvml.NVML_FI_DEV_NVLINK_COUNT_RCV_BYTES, link)
    if sent is None:  # before NVLink 5, in KiB
        sent = _times(1024, _field(handle, pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, link))
        received = _times(1024, _field(handle, pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, link))
    return NvLink(
        link=link,
        is_up=is_up,
        sent_bytes=None if sent is None else int(sent),
        received_bytes=None if received is None else int(received),
        errors=_each(NVLINK_ERRORS, pynvml.nvmlDeviceGetNvLinkErrorCounter, handle, link),
    )


def _instances(handle: Any) -> tuple[MigInstance, ...]:
    found = []
    for index in range(_known(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        instance = _known(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        if instance is None:  # an index that no instance has
            continue
        memory = _memory(instance)
        found.append(
            MigInstance(
                index=index,
                uuid=_text(pynvml.nvmlDeviceGetUUID(instance)),
                memory_used_bytes=None if memory is None else int(memory.used),
                memory_total_bytes=None if memory is None else int(memory.total),
            )
        )
    return tuple(found)


def _processes(handle: Any) -> tuple[GpuProcess, ...]:
    found = _known(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
    return tuple(GpuProcess(int(one.pid), _process_name(int(one.pid)), one.usedGpuMemory) for one in found)


def _process_name(pid: int) -> str:
    """Empty where the process is gone or in another namespace."""
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return ""


def _field(handle: Any, field_id: int, scope: int = 0) -> float | None:
    """One of NVML's numbered fields; each answers for itself."""
    values = _known(pynvml.nvmlDeviceGetFieldValues, handle, [(field_id, scope)])
    if values is None or values[0].nvmlReturn != pynvml.NVML_SUCCESS:
        return None
    name = _VALUE_MEMBERS.get(values[0].valueType)
    return None if name is None else float(getattr(values[0].value, name))


_VALUE_MEMBERS = {
    pynvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: "usVal",
}


def _each(asked: Mapping[str, int], ask: Callable[..., int], *args: Any) -> dict[str, int]:
    """The answers to all of ``asked``, its value the last argument, that NVML knows."""
    found = ((name, _known(ask, *args, what)) for name, what in asked.items())
    return {name: int(value) for name, value in found if value is not None}


def _scaled(factor: float, ask: Callable[..., float], *args: Any) -> float | None:
    return _times(factor, _known(ask, *args))


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else value * factor


def _known(ask: Callable[..., Value], *args: Any) -> Value | None:
    """What the driver answers, or None where this GPU has no such figure; other failures go on."""
    try:
        return ask(*args)
    except pynvml.NVMLError as error:
        if error.value in UNKNOWN:
            return None
        raise


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
