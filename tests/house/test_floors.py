"""Imports only point down: which package may import which, of ours and of others'."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("collector", "probe_engine", "planner", "alerts", "dashboard")

# The longest prefix that fits a module gives its floor; what a package may import includes itself.
FLOORS: dict[str, tuple[str, ...]] = {
    "collector.model": (),
    "collector.promql": ("collector.model",),
    "collector.store": ("collector.model",),
    "collector.signals": ("collector.model",),
    "collector.client": ("collector.model",),
    "collector": ("collector",),
    "probe_engine.sched": (),
    "probe_engine.gateway": ("probe_engine.sched",),
    "probe_engine": ("probe_engine",),
    "alerts": ("collector.model", "collector.promql", "collector.client", "collector.signals"),
    "planner": (
        "probe_engine.sched",
        "probe_engine.gateway",
        "collector.client",
        "collector.signals",
        "collector.model",
    ),
    "dashboard": ("collector.client", "collector.signals", "collector.model", "planner", "alerts"),
}

# Third parties that only some places may import, at whatever depth of the file.
GUARDED: dict[str, tuple[str, ...]] = {
    "torch": ("probe_engine.model", "probe_engine.runtime", "probe_engine.profile"),
    "dash": ("dashboard",),
    "plotly": ("dashboard",),
    "sqlite3": ("collector.store", "collector.forward", "alerts"),
    "promql_parser": (),
    "transformers": (),
}


def modules() -> Iterator[tuple[str, Path]]:
    for package in OURS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(module: str, path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the whole name"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def floor_of(module: str) -> str:
    return max((package for package in FLOORS if inside(module, package)), key=len)


ALL = sorted(modules())


@pytest.mark.parametrize(("module", "path"), ALL, ids=[module for module, _ in ALL])
def test_a_module_imports_only_from_its_floor_down(module: str, path: Path):
    floor = floor_of(module)
    allowed = (floor, *FLOORS[floor])
    wrong = [
        name
        for name in imports(module, path)
        if name.split(".")[0] in OURS
        and name.split(".")[0] != name  # `from collector import client` is seen as collector.client too
        and not any(inside(name, package) for package in allowed)
    ]
    assert not wrong, f"{module} (floor {floor}) may import {allowed}, but imports {wrong}"


@pytest.mark.parametrize(("module", "path"), ALL, ids=[module for module, _ in ALL])
def test_a_guarded_library_is_imported_only_where_it_belongs(module: str, path: Path):
    wrong = [
        name
        for name in imports(module, path)
        if (places := GUARDED.get(name.split(".")[0])) is not None
        and not any(inside(module, place) for place in places)
    ]
    assert not wrong, f"{module} imports {wrong}"


def test_the_scheduler_needs_only_the_standard_library():
    found = {
        name.split(".")[0]
        for module, path in ALL
        if inside(module, "probe_engine.sched")
        for name in imports(module, path)
    }
    assert found - {"probe_engine"} <= sys.stdlib_module_names


@pytest.mark.parametrize("package", ["planner", "alerts", "collector", "probe_engine.sched", "loadline"])
def test_a_part_imports_without_torch_and_dash(package: str):
    names = [module for module, _ in ALL if inside(module, package)] or [package]
    code = (
        "import sys, importlib\n"
        "sys.modules.update(dict.fromkeys(['torch', 'dash', 'transformers', 'safetensors', 'tokenizers']))\n"
        f"[importlib.import_module(name) for name in {names!r}]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("part", ["probe_engine", "collector", "alerts", "planner", "dashboard"])
def test_importing_a_command_line_is_light(part: str):
    code = (
        f"import sys, {part}.cli\n"
        "heavy = {'torch', 'dash', 'scipy', 'plotly', 'pandas', 'uvicorn', 'transformers'} & set(sys.modules)\n"
        "sys.exit(f'imports {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
