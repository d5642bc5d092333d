"""The front door: ``loadline`` composes each part's ``cli.py`` and knows nothing else of them.

A part is imported only when its name is called, so that ``loadline plan`` imports neither torch nor dash.
"""

import os
import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from collector.host.supervise import Process


class Part(NamedTuple):
    """Where a subcommand's Typer application is found."""

    module: str
    attribute: str
    help: str


PARTS = {
    "engine": Part("probe_engine.cli", "app", "Serve a model; bench and profile it."),
    "collector": Part("collector.cli", "app", "Scrape, store and answer PromQL."),
    "alerts": Part("alerts.cli", "app", "Evaluate and check Prometheus-format rules."),
    "plan": Part("planner.cli", "app", "Capacity under SLO, cost, calibration and simulation."),
    "replay": Part("planner.replay_cli", "app", "Play a request trace against a server."),
    "dashboard": Part("dashboard.cli", "app", "Serve the web dashboard."),
}


READY = {
    "engine": "/ready",
    "gateway": "/ready",
    "collector": "/-/ready",
    "alerts": "/-/healthy",
    "dashboard": "/healthz",
}
HEADROOM = ("plan", "headroom", "--watch")
COMMANDS = {"gateway": ("engine", "gateway")}  # what is not ``PART serve``
SCRAPED = ("engine", "collector", "alerts")
DEFAULT_CONFIG = Path("loadline.toml")
PRICES = Path(__file__).parent / "samples" / "rules" / "cost.yml"
"""Beside the packs where no rules are named: what the built-in model costs, for the alerts on spending."""


def main() -> None:
    """Run the command line."""
    wanted = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    compose(wanted)(prog_name="loadline")


def compose(wanted: str | None) -> typer.Typer:
    """The command tree; of the parts, only the one named ``wanted`` is imported."""
    app = typer.Typer(
        help="How your LLM fleet is doing, how much more it can carry, and what that costs.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(front_door)
    app.command()(up)
    for name, part in PARTS.items():
        part_app = getattr(import_module(part.module), part.attribute) if name == wanted else typer.Typer()
        app.add_typer(part_app, name=name, help=part.help)
    return app


def front_door(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """How your LLM fleet is doing, how much more it can carry, and what that costs."""
    if version:
        print(f"loadline {metadata.version('loadline')}")
        raise typer.Exit


def up(
    config: Annotated[
        Path | None,
        typer.Option(help="Settings file; loadline.toml here if there is one.", envvar="LOADLINE_CONFIG"),
    ] = None,
    no_traffic: Annotated[
        bool,
        typer.Option("--no-traffic", help="Do not replay the sample trace.", envvar="LOADLINE_NO_TRAFFIC"),
    ] = False,
    gateway: Annotated[
        bool | None,
        typer.Option(
            "--gateway/--no-gateway",
            help="Put a gateway before the engine; as [gateway] enabled says if absent.",
            envvar="LOADLINE_GATEWAY",
        ),
    ] = None,
) -> None:
    """Start engine, collector, alerts and dashboard, and replay a sample trace so that every panel moves.

    Every minute the planner works out the headroom and writes it back, unless [plan] headroom is false. With
    ``--gateway``, what is replayed goes through a gateway.
    """
    from collector.host.supervise import Supervisor
    from collector.model.errors import ConfigError

    path = config or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)
    try:
        settings = read_config(path)
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    processes = fleet(settings, path, traffic=not no_traffic, gateway=gateway)
    page = f"{url_of(settings, 'dashboard')}/?range=15m"
    raise typer.Exit(Supervisor(processes, sys.stderr, f"open {page} (Ctrl-C stops all)").run())


def read_config(path: Path | None) -> "dict[str, Any]":
    """One settings object per section of the file at ``path``, defaults where it is silent.

    Raises ConfigError with file, line, field, value and what is allowed.
    """
    from alerts.settings import AlertsSettings
    from collector.model.settings_file import read_settings
    from collector.settings import CollectorSettings
    from dashboard.settings import DashboardSettings
    from planner.settings import PlanSettings, TrafficSettings
    from planner.slo import Slo
    from probe_engine.gateway.settings import UpGatewaySettings
    from probe_engine.settings import EngineSettings

    sections: dict[str, type[BaseModel]] = {
        "engine": EngineSettings,
        "gateway": UpGatewaySettings,
        "collector": CollectorSettings,
        "alerts": AlertsSettings,
        "dashboard": DashboardSettings,
        "plan": PlanSettings,
        "slo": Slo,
        "traffic": TrafficSettings,
    }
    return read_settings(path, sections)


def fleet(
    settings: "dict[str, Any]", config: Path | None, *, traffic: bool, gateway: bool | None = None
) -> "list[Process]":
    """What ``up`` runs, in the order of starting; each part is told where the others are.

    gateway: whether there is one; None: as the settings say.
    """
    from alerts.rulefile import packs
    from collector.host.supervise import Process, loadline_command
    from planner.slo import Slo

    engine, collector, alerts = settings["engine"], settings["collector"], settings["alerts"]
    front = settings["gateway"]
    fronted = front.enabled if gateway is None else gateway
    urls = {part: url_of(settings, part) for part in READY}
    scraped = (*SCRAPED, "gateway") if fronted else SCRAPED
    promise = config if settings["slo"] != Slo() else None
    told: dict[str, dict[str, Any]] = {
        "engine": {"otlp_endpoint": engine.otlp_endpoint or urls["collector"]},
        "collector": {
            "scrape": (*(f"{urls[part]}/metrics,job={part}" for part in scraped), *collector.scrape),
            "alerts_url": urls["alerts"],
        },
        "alerts": {
            "source": urls["collector"],
            "source_token_file": collector.auth_token_file,
            "rules": alerts.rules or (*packs(), *(path for path in (PRICES,) if path.exists())),
            "state": alerts.state or collector.data.parent / "alerts.db",
            "external_url": urls["dashboard"],
        },
        "dashboard": {
            "source": urls["collector"],
            "source_token_file": collector.auth_token_file,
            "slo": settings["dashboard"].slo or promise,
            "alerts": urls["alerts"],
            "alerts_token_file": settings["dashboard"].alerts_token_file
            or alerts.operator_token_file
            or alerts.auth_token_file,
            "replay_targets": settings["dashboard"].replay_targets or (urls["gateway" if fronted else "engine"],),
        },
    }
    if fronted:
        told["gateway"] = {
            "upstream": front.upstream or (urls["engine"],),
            "upstream_token_file": front.upstream_token_file or engine.auth_token_file,
            "enabled": None,
        }
        token_file = alerts.gateway_token_file or front.admin_token_file
        if token_file is not None:
            told["alerts"] |= {"gateway": alerts.gateway or urls["gateway"], "gateway_token_file": token_file}
    processes = [
        Process(
            part,
            (*loadline_command(), *COMMANDS.get(part, (part, "serve"))),
            urls[part] + READY[part],
            environment=environment(part, settings[part].model_dump() | told[part]),
        )
        for part in told
    ]
    if settings["plan"].headroom:
        told_plan = environment(
            "plan",
            settings["plan"].model_dump(exclude={"headroom"})
            | {"source": urls["collector"], "source_token_file": collector.auth_token_file, "slo": promise},
        )
        processes.append(Process("plan", (*loadline_command(), *HEADROOM), environment=told_plan))
    if traffic:
        trace = Path(settings["traffic"].trace)
        replay = ("replay", "run", str(trace if trace.exists() else Path(__file__).parent / trace), "--forever")
        target, token_file = ("gateway", front.auth_token_file) if fronted else ("engine", engine.auth_token_file)
        options = settings["traffic"].model_dump() | {"target": urls[target], "token_file": token_file}
        command = (*loadline_command(), *replay)
        told_traffic = environment("replay", options)
        processes.append(Process("traffic", command, may_end=True, gives_up=(2,), environment=told_traffic))
    return processes


def url_of(settings: "dict[str, Any]", part: str) -> str:
    """Where the other parts reach ``part``."""
    host = settings[part].host
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{settings[part].port}"


def environment(part: str, settings: "dict[str, Any]") -> dict[str, str]:
    """The environment variables that tell ``part`` its settings; every flag has one."""

    def text(value: object) -> str:
        if not isinstance(value, tuple):
            return str(value)
        return (os.pathsep if isinstance(value[0], Path) else " ").join(map(str, value))

    return {
        f"LOADLINE_{part}_{name}".upper(): text(value)
        for name, value in settings.items()
        if value is not None and value != ()
    }


if __name__ == "__main__":
    main()
