"""``loadline plan``: calibrate a twin, simulate, size a fleet, validate, and price it."""

from pathlib import Path
from typing import Annotated

import typer

from planner import (
    autoscale_cli,
    calibrate_cli,
    capacity_cli,
    drift_cli,
    forecast_cli,
    hardware_cli,
    headroom_cli,
    simulate_cli,
)
from planner import options as opt

app = typer.Typer(no_args_is_help=True, help="Capacity under SLO, cost, calibration and simulation.")

app.command()(calibrate_cli.calibrate)
app.command()(simulate_cli.simulate)
app.command()(capacity_cli.capacity)
app.command()(simulate_cli.validate)
app.command()(drift_cli.drift)
app.command()(autoscale_cli.autoscale)
app.command()(hardware_cli.fit)
app.command()(hardware_cli.mix)
app.command()(forecast_cli.forecast)
app.command()(headroom_cli.headroom)


@app.command()
def cost(
    prices: Annotated[Path, typer.Argument(help="Price table: TOML with [[plan]] tables (samples/cost/claims.toml).")],
    tokens_per_day: Annotated[
        float | None,
        typer.Option(min=0, help="Also print the bill at this volume.", envvar="LOADLINE_PLAN_TOKENS_PER_DAY"),
    ] = None,
    as_json: opt.AsJson = False,
    html: opt.HtmlPath = None,
) -> None:
    """Where API, hybrid and self-hosted plans break even."""
    with opt.one_line_errors():
        from fractions import Fraction

        from planner.answers.cost import cost_report
        from planner.cost import load_prices

        volume = None if tokens_per_day is None else Fraction(tokens_per_day)
        opt.deliver(cost_report(load_prices(prices), prices.name, volume), as_json=as_json, html=html)
