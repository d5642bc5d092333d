"""GPU: use, memory, heat, power, clocks, faults of each device; where there is none, why."""

from dash import html

from dashboard import board, plots, quantity, queries
from dashboard.board import Ask, Board, Box, Plot, Scene
from dashboard.figures import chart
from dashboard.figures.chart import Axis
from dashboard.parts.icon import Node
from dashboard.parts.panel import Panel
from dashboard.parts.tables import simple_table
from dashboard.source import Answer, Question
from dashboard.words import joined, say

BY = ("instance", "gpu")
CELSIUS = Axis(suffix=" °C", hover="%{y:.0f} °C")
WATTS = Axis(suffix=" W", hover="%{y:.0f} W")
GIGAHERTZ = 1e9


def degrees(value: float | None) -> str:
    """``64 °C``."""
    return quantity.ABSENT if value is None else f"{value:.0f} °C"


def watts(value: float | None) -> str:
    """``412 W``."""
    return quantity.ABSENT if value is None else f"{value:.0f} W"


def gauge(signal: str) -> plots.Build:
    """The greatest value of each device."""
    return plots.gauge(signal, "max", BY)


def rate(signal: str) -> plots.Build:
    """How fast a counter of each device grows."""
    return plots.rate(signal, BY)


def memory(ask: Ask) -> str:
    """Share of each device's memory in use."""
    used = ask.vocabulary.gauge("gpu_memory_used", by=BY, where=ask.where)
    return f"({used} / {ask.vocabulary.gauge('gpu_memory_total', by=BY, where=ask.where)})"


def power_share(ask: Ask) -> str:
    """Power drawn, as a share of what the device may draw."""
    drawn = ask.vocabulary.gauge("gpu_power", by=BY, where=ask.where)
    return f"({drawn} / {ask.vocabulary.gauge('gpu_power_limit', by=BY, where=ask.where)})"


def throttled(ask: Ask) -> str:
    """Reasons for which devices run slower than they could: 1 while one holds."""
    return ask.vocabulary.gauge("gpu_throttled", agg="max", by=(*BY, "reason"), where=ask.where)


def clock(ask: Ask) -> str:
    """Clock of the processors in gigahertz."""
    return f"{gauge('gpu_sm_clock')(ask)} / {GIGAHERTZ:.0f}"


def devices(ask: Ask) -> dict[str, Question]:
    """How many GPUs there are, and what they are."""
    vocabulary = ask.vocabulary
    return {
        "count": queries.question(lambda: vocabulary.gauge("gpu_devices", by=("instance",))),
        "info": queries.question(lambda: vocabulary.info("gpu_info")),
        "use": queries.question(lambda: vocabulary.gauge("gpu_utilization", agg="max", by=BY)),
    }


def why(scene: Scene, answer: Answer) -> str:
    """A host without GPUs has nothing to show, and says so before anything else."""
    counted = scene.answers.get("count")
    if counted is not None and counted.lines and not sum(queries.last(line.values) or 0 for line in counted.lines):
        return "no GPU on this host"
    return plots.why_empty(scene, answer)


def listed(scene: Scene) -> tuple[Node, Node]:
    """The devices, or why there are none."""
    counted, info = scene.answers["count"], scene.answers["info"]
    total = sum(queries.last(line.values) or 0 for line in counted.lines)
    rows = [dict(line.labels) for line in info.lines if queries.last(line.values) is not None]
    if rows:
        columns = sorted({name for row in rows for name in row} - {"__name__", "job", "instance", "gpu", "gpu_name"})
        cells = [[row.get(name, "") for name in ("instance", "gpu", "gpu_name", *columns)] for row in rows]
        return simple_table("Devices", ("Host", "GPU", "Name", *columns), cells), say("{n} devices", n=len(rows))
    if counted.lines and not total:
        hosts = joined(sorted(dict(line.labels).get("instance", "") for line in counted.lines))
        return _none(
            say("No GPU on this host: the collector looked through NVML on {hosts} and found no device.", hosts=hosts)
        ), "0 devices"
    if scene.answers["use"].lines:
        return html.P("The exporter does not say what its devices are.", className="none"), None
    failed = counted.error or info.error
    if failed:
        return html.P(failed, className="none"), None
    return _none(
        say("No GPU is measured: {address} holds no metric of a GPU.", address=scene.site.source.address)
    ), None


def _none(why: str) -> Node:
    """Said once for the whole page, whose charts the stylesheet then leaves out."""
    todo = " Scrape a host that has one, through Loadline's collector or NVIDIA's DCGM exporter, to fill this page."
    return html.P([html.B(why), todo], className="none alone")


def _counted(plot: Plot) -> Plot:
    """``plot`` that also asks how many devices there are, to say so where there is none."""
    return Plot(plot.panel, lambda ask: {**plot.ask(ask), "count": devices(ask)["count"]}, plot.draw)


def _share(key: str, title: str, build: plots.Build) -> Plot:
    return _counted(plots.shares(Panel(f"gp-{key}", title, "%"), build, by=BY, sub="by device", why=why))


def _line(
    key: str, title: str, build: plots.Build, unit: str = "", *, axis: Axis = chart.PLAIN,
    write: quantity.Formatter = quantity.count, limit: plots.Limit | None = None, floor_top: float = 0.0,
    by: tuple[str, ...] = BY, sub: str = "by device",
) -> Plot:  # fmt: skip
    panel = Panel(f"gp-{key}", title, unit)
    plot = plots.lines(panel, build, by=by, write=write, axis=axis, limit=limit, sub=sub, floor_top=floor_top, why=why)
    return _counted(plot)


HOT = plots.Limit(85, "throttles near 85 °C")

BOARD = Board(
    key="gp",
    title="GPU",
    parts=(
        Box("gp-devices", "Devices", listed, ask=devices),
        _share("use", "Utilisation", gauge("gpu_utilization")),
        _share("memory", "Memory used", memory),
        _share("sm", "SM activity", gauge("gpu_sm_activity")),
        _share("tensor", "Tensor core activity", gauge("gpu_tensor_activity")),
        _line(
            "temperature", "Temperature", gauge("gpu_temperature"), axis=CELSIUS, write=degrees, limit=HOT, floor_top=90
        ),
        _line("margin", "Margin to slowdown", gauge("gpu_temperature_margin"), axis=CELSIUS, write=degrees),
        _line("power", "Power", gauge("gpu_power"), axis=WATTS, write=watts),
        _share("share", "Power, of the limit", power_share),
        _line("clock", "SM clock", clock, "GHz"),
        _line("throttled", "Throttling", throttled, by=(*BY, "reason"), sub="by reason", floor_top=1),
        _line("corrected", "ECC errors, corrected", rate("gpu_ecc_corrected"), "/s", floor_top=0.01),
        _line("uncorrected", "ECC errors, uncorrected", rate("gpu_ecc_uncorrected"), "/s", floor_top=0.01),
        _line("xid", "Xid errors", rate("gpu_xid_errors"), "/s", floor_top=0.01),
        _line("last-xid", "Last Xid", gauge("gpu_last_xid"), "code", floor_top=1),
        _line("pcie", "PCIe sent", gauge("gpu_pcie_sent"), "B/s"),
        _line("nvlink", "NVLink sent", rate("gpu_nvlink_sent"), "B/s"),
    ),
    needs_engine=False,
)  # fmt: skip

PAGE = board.page(BOARD, path="/gpu", icon="cpu", key="u")
