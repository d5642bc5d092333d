"""Pages that are drawn from the code: ``make docs`` writes them, a test holds them to it."""

from pathlib import Path

from collector.promql import coverage
from collector.signals import SIGNALS, Dialect, load_dialects
from probe_engine.telemetry.catalog import METRICS

ROOT = Path(__file__).resolve().parents[2]
WARNING = "<!-- Written by `make docs`; change the code that it is drawn from instead. -->\n\n"


def pages() -> dict[Path, str]:
    """Every generated page with its text."""
    return {
        ROOT / "probe_engine" / "METRICS.md": metrics_page(),
        ROOT / "collector" / "signals" / "SIGNALS.md": signals_page(),
        ROOT / "collector" / "promql" / "COVERAGE.md": coverage.page(),
    }


def metrics_page() -> str:
    """What the engine exposes on ``/metrics``."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in ("model_name", *metric.labels))
        rows.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return f"# The engine's metrics\n\n{WARNING}" + "\n".join(rows) + "\n"


def signals_page() -> str:
    """Signals, and what each engine's dialect makes of them."""
    dialects = load_dialects()
    head = ["signal", "kind", "unit", "meaning", *(dialect.title for dialect in dialects)]
    rows = [_row(head), _row(["---"] * len(head))]
    for signal in SIGNALS.values():
        told = [_told(dialect, signal.name) for dialect in dialects]
        rows.append(_row([f"`{signal.name}`", signal.kind, signal.unit, signal.what, *told]))
    return f"# Signals and dialects\n\n{WARNING}" + "\n".join(rows) + "\n"


def _told(dialect: Dialect, signal: str) -> str:
    candidates = dialect.signals.get(signal, ())
    if candidates:
        return "<br>".join(f"`{candidate.metric}`" for candidate in candidates)
    return dialect.not_exposed.get(signal, "–")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
