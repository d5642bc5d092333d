"""``loadline plan``: calibrate a twin, simulate, size a fleet, validate, and price it."""

import typer

from planner import (
    autoscale_cli,
    calibrate_cli,
    capacity_cli,
    comparison_cli,
    cost_cli,
    drift_cli,
    fleet_cli,
    forecast_cli,
    hardware_cli,
    headroom_cli,
    patterns_cli,
    simulate_cli,
)

app = typer.Typer(no_args_is_help=True, help="Capacity under SLO, cost, calibration and simulation.")

app.command()(calibrate_cli.calibrate)
app.command()(simulate_cli.simulate)
app.command()(capacity_cli.capacity)
app.command()(simulate_cli.validate)
app.command()(drift_cli.drift)
app.command()(autoscale_cli.autoscale)
app.command()(hardware_cli.fit)
app.command()(hardware_cli.mix)
app.command()(fleet_cli.fleet)
app.command()(patterns_cli.patterns)
app.command()(patterns_cli.placement)
app.command()(forecast_cli.forecast)
app.command()(cost_cli.cost)
app.command()(headroom_cli.headroom)
app.command()(comparison_cli.compare)
