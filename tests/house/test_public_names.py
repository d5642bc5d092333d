"""A package's public names are listed where its reader looks for them, and exist."""

from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("collector", "probe_engine", "planner", "alerts", "dashboard")


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_a_readme_that_says_purpose_names_and_tests(package: str):
    text = (ROOT / package / "README.md").read_text(encoding="utf-8")
    for heading in ("## Public names", "## Tests"):
        assert heading in text, f"{package}/README.md has no '{heading}'"


@pytest.mark.parametrize("package", ["collector.store", "collector.promql", "collector.signals", "probe_engine.sched"])
def test_every_exported_name_exists_and_stands_in_the_readme(package: str):
    module = import_module(package)
    readme = (ROOT / package.split(".", maxsplit=1)[0] / "README.md").read_text(encoding="utf-8")
    for name in module.__all__:
        assert hasattr(module, name), f"{package}.__all__ names {name}, which does not exist"
        assert f"`{name}`" in readme, (
            f"{package}.{name} is not told of in {package.split('.', maxsplit=1)[0]}/README.md"
        )
