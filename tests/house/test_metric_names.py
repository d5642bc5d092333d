"""Every metric that a panel, rule or page names exists in a dialect."""

import re
from pathlib import Path

import pytest

from collector.signals import names_known

ROOT = Path(__file__).resolve().parents[2]
ENGINES = "vllm|sglang|llamacpp|lmdeploy"
METRIC = re.compile(
    rf"(?<![\w./:-])(?:loadline_[a-z0-9_]+|(?:{ENGINES}):[a-z0-9_]+|DCGM_FI_[A-Z0-9_]+)(?![\w./-]*\.(?:py|toml|db))"
)
NOT_METRICS = {"loadline_py", "loadline_toml", "loadline_parts", "loadline_use"}  # the last is a label within queries


def sources() -> list[Path]:
    found = [*(ROOT / "alerts" / "packs").glob("*.yml"), *(ROOT / "dashboard").rglob("*.py"), *ROOT.glob("*.md")]
    for package in ("collector", "probe_engine", "planner", "alerts", "dashboard", "samples"):
        found += (ROOT / package).rglob("*.md")
    return sorted(path for path in found if path.is_file())


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_metric_named_in_panels_rules_or_docs_exists(path: Path):
    known = names_known()
    unknown = {
        name
        for name in METRIC.findall(path.read_text(encoding="utf-8"))
        if name not in known and name not in NOT_METRICS and not name.endswith("_")
    }
    assert not unknown, f"no dialect knows {sorted(unknown)}"
