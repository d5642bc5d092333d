"""``loadline plan``: calibrate a twin, simulate, size a fleet, validate, and price it."""

import typer

from planner.commands import (
    autoscale,
    calibrate,
    capacity,
    comparison,
    cost,
    drift,
    fleet,
    forecast,
    hardware,
    headroom,
    patterns,
    simulate,
)

app = typer.Typer(no_args_is_help=True, help="Capacity under SLO, cost, calibration and simulation.")

app.command()(calibrate.calibrate)
app.command()(simulate.simulate)
app.command()(capacity.capacity)
app.command()(simulate.validate)
app.command()(drift.drift)
app.command()(autoscale.autoscale)
app.command()(hardware.fit)
app.command()(hardware.mix)
app.command()(fleet.fleet)
app.command()(patterns.patterns)
app.command()(patterns.placement)
app.command()(forecast.forecast)
app.command()(cost.cost)
app.command()(headroom.headroom)
app.command()(comparison.compare)
