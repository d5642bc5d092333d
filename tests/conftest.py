"""Fixtures that every test may take."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("house", deadline=None)
settings.load_profile("house")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real traces, expositions and Prometheus's own cases; tests that need it skip where it is absent.

    ``LOADLINE_TEST_DATA`` names it; otherwise a folder beside the checkout that holds ``data/traces/MANIFEST.json``.
    """
    named = os.environ.get("LOADLINE_TEST_DATA")
    candidates = (
        [Path(named)] if named else sorted(path.parents[1] for path in ROOT.parent.glob("*/data/traces/MANIFEST.json"))
    )
    for candidate in candidates:
        if (candidate / "traces" / "MANIFEST.json").is_file():
            return candidate
    pytest.skip(
        "no reference data: set LOADLINE_TEST_DATA to the folder that holds traces/, expositions/ and promqltest/"
    )
