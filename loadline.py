"""The front door: ``loadline`` composes each part's ``cli.py`` and knows nothing else of them.

A part is imported only when its name is called, so that ``loadline plan`` imports neither torch nor dash.
"""

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
) -> None:
    """Start engine, collector, alerts and dashboard, and replay a sample trace so that every panel moves."""
    from collector.host.supervise import Supervisor
    from collector.model.errors import ConfigError

    try:
        settings = read_config(config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    processes = fleet(settings, traffic=not no_traffic)
    raise typer.Exit(Supervisor(processes, sys.stderr, f"open {url_of(settings, 'dashboard')} (Ctrl-C stops all)").run())


def read_config(path: Path | None) -> "dict[str, Any]":
    """One settings object per section of ``loadline.toml``, defaults where the file is silent.

    Without ``path``, ``loadline.toml`` of the working directory is read if it exists. Raises ConfigError with
    file, line, field, value and what is allowed.
    """
    from alerts.settings import AlertsSettings
    from collector.settings import CollectorSettings
    from dashboard.settings import DashboardSettings
    from planner.settings import TrafficSettings
    from planner.slo import Slo
    from probe_engine.settings import EngineSettings

    from collector.model.settings_file import read_settings

    sections = {
        "engine": EngineSettings,
        "collector": CollectorSettings,
        "alerts": AlertsSettings,
        "dashboard": DashboardSettings,
        "slo": Slo,
        "traffic": TrafficSettings,
    }
    default = Path("loadline.toml")
    return read_settings(path or (default if default.exists() else None), sections)


def fleet(settings: "dict[str, Any]", *, traffic: bool) -> "list[Process]":
    """What ``up`` runs, in the order of starting."""
    from collector.host.supervise import Process, loadline_command

    def url(part: str) -> str:
        return url_of(settings, part)

    def serve(part: str, ready: str, **overrides: str) -> Process:
        environment = settings_environment(part, settings[part]) | {
            f"LOADLINE_{part}_{name}".upper(): value for name, value in overrides.items()
        }
        return Process(part, (*loadline_command(), part, "serve"), url(part) + ready, environment=environment)

    processes = [
        serve("engine", "/ready", otlp_endpoint=url("collector")),
        serve("collector", "/-/ready", scrape=f"{url('engine')}/metrics,job=engine", alerts_url=url("alerts")),
        serve("alerts", "/-/healthy", source=url("collector")),
        serve("dashboard", "/healthz", source=url("collector")),
    ]
    if traffic:
        trace = Path(settings["traffic"].trace)
        found = trace if trace.exists() else Path(__file__).parent / trace
        replay = (*loadline_command(), "replay", "run", str(found), "--target", url("engine"), "--forever")
        processes.append(Process("traffic", replay, environment=settings_environment("replay", settings["traffic"])))
    return processes


def url_of(settings: "dict[str, Any]", part: str) -> str:
    """Where ``part`` listens."""
    return f"http://{settings[part].host}:{settings[part].port}"


def settings_environment(part: str, settings: "BaseModel") -> dict[str, str]:
    """The environment variables that tell ``part`` its settings; every flag has one."""
    return {
        f"LOADLINE_{part}_{name}".upper(): " ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
        for name, value in settings.model_dump(exclude_none=True).items()
    }


if __name__ == "__main__":
    main()
