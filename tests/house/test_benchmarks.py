"""Every measurement can at least be started: what it shares with others is still there."""

from importlib import import_module
from pathlib import Path

import pytest

import benchmarks

SCRIPTS = sorted(path.stem for path in Path(benchmarks.__path__[0]).glob("[a-z]*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_measurement_imports_and_has_a_main(script: str) -> None:
    assert callable(import_module(f"benchmarks.{script}").main)
