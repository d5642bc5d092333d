"""Pages that are drawn from the code: ``make docs`` writes them, a test holds them to it."""

from pathlib import Path

from collector.host.catalog import GPU_METRICS, HOST_METRICS
from collector.promql import coverage
from collector.signals import SIGNALS, Candidate, Dialect, load_dialects
from probe_engine.telemetry.catalog import METRICS

ROOT = Path(__file__).resolve().parents[2]
WARNING = "<!-- Written by `make docs`; change the code that it is drawn from instead. -->\n\n"


def pages() -> dict[Path, str]:
    """Every generated page with its text."""
    return {
        ROOT / "probe_engine" / "METRICS.md": metrics_page(),
        ROOT / "collector" / "METRICS.md": machine_page(),
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


def machine_page() -> str:
    """What the collector writes about its own machine."""
    parts = []
    for title, metrics in (("Host (psutil)", HOST_METRICS), ("GPUs (NVML)", GPU_METRICS)):
        rows = [_row(["metric", "type", "labels", "meaning"]), _row(["---"] * 4)]
        for metric in metrics:
            rows.append(_row([f"`{metric.name}`", metric.kind, _names(metric.labels), metric.help]))
        parts.append(f"## {title}\n\n" + "\n".join(rows) + "\n")
    intro = (
        'Written beside what is scraped, with `job="loadline-host"` and the host\'s name for `instance`. What a GPU\n'
        "or its driver does not know is left out, never 0.\n\n"
    )
    return f"# The machine's metrics\n\n{WARNING}{intro}" + "\n".join(parts)


def signals_page() -> str:
    """Signals, and what each engine's dialect makes of them."""
    dialects = load_dialects()
    rows = [_row(["signal", "kind", "unit", "meaning", "dialects that have it"]), _row(["---"] * 5)]
    for signal in SIGNALS.values():
        speakers = [dialect.engine for dialect in dialects if signal.name in dialect.signals]
        rows.append(_row([f"`{signal.name}`", signal.kind, signal.unit, signal.what, ", ".join(speakers)]))
    sections = [_dialect_section(dialect) for dialect in dialects if dialect.signals or dialect.note]
    head = (
        f"# Signals and dialects\n\n{WARNING}The files and their fields: [dialects/README.md](dialects/README.md).\n\n"
    )
    return head + "\n".join(rows) + "\n\n" + "\n".join(sections)


def _dialect_section(dialect: Dialect) -> str:
    place = dialect.endpoint
    told = [f"layer {dialect.layer}", f"pool is `{dialect.pool_label}`" if dialect.pool_label else "no pool"]
    if place is not None and place.path:
        told.append(f"`{place.path}`" + (f" on port {place.port}" if place.port else ""))
    if place is not None and place.flag:
        told.append(f"switched on with `{place.flag}`")
    text = f"## {dialect.title} (`{dialect.engine}`)\n\n{'; '.join(told)}. {dialect.note or ''}".rstrip() + "\n"
    rows = [
        _row([f"`{signal}`", "<br>".join(map(_candidate, dialect.signals[signal]))])
        for signal in SIGNALS
        if signal in dialect.signals
    ]
    rows += [_row([f"`{signal}`", f"not exposed: {reason}"]) for signal, reason in dialect.not_exposed.items()]
    return text + ("\n" + "\n".join([_row(["signal", "as"]), _row(["---"] * 2), *rows]) + "\n" if rows else "")


def _candidate(candidate: Candidate) -> str:
    text = f"`{candidate.expr or candidate.metric}`".replace("|", "\\|")
    remarks = [
        "" if candidate.shape == candidate.kind else f"{candidate.shape}: a mean alone",
        f"per `{candidate.count}`" if candidate.count else "",
        f"where `{candidate.where}`".replace("|", "\\|") if candidate.where else "",
        f"times `{candidate.times}`" if candidate.times else "",
        f"plus {_names((*candidate.plus, *candidate.adds))}" if candidate.plus or candidate.adds else "",
        f"in {candidate.unit}" if candidate.factor != 1 else "",
        f"since {candidate.since}" if candidate.since else "",
        f"until {candidate.until}" if candidate.until else "",
        candidate.definition or "",
        f"only with {candidate.flag}" if not candidate.default_on else "",
    ]
    said = ", ".join(remark for remark in remarks if remark)
    return f"{text} ({said})" if said else text


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
