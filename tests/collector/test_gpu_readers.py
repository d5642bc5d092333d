"""GPU readers: the fake's promise, and the real library where there is one."""

import pytest

from collector.gpu.nvml import Nvml
from collector.gpu.reader import FakeGpu, GpuError, GpuReading


def test_the_fake_answers_what_it_was_given_until_it_is_told_to_fail() -> None:
    gpu = FakeGpu([GpuReading(0, "GPU-1", "H100")])
    assert gpu.read()[0].name == "H100"
    gpu.error = "driver gone"
    with pytest.raises(GpuError, match="driver gone"):
        gpu.read()


def test_nvml_reads_what_is_there_or_says_that_nothing_is() -> None:
    try:
        nvml = Nvml()
    except GpuError as error:
        assert str(error)
        return
    readings = nvml.read()
    nvml.close()
    assert all(reading.name and reading.uuid for reading in readings)
    assert all((reading.memory_total_bytes or 0) > 0 for reading in readings)
