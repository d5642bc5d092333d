"""``loadline plan cost``: what each way of serving tokens costs, and where they break even."""

from pathlib import Path
from typing import Annotated

import typer

from planner.commands import options as opt


def cost(
    prices: Annotated[Path, typer.Argument(help="Price table: TOML with [[plan]] tables (samples/cost/claims.toml).")],
    tokens_per_day: Annotated[
        float | None,
        typer.Option(min=0, help="Also print the bill at this volume.", envvar="LOADLINE_PLAN_TOKENS_PER_DAY"),
    ] = None,
    catalog: opt.OwnCatalog = None,
    as_json: opt.AsJson = False,
    html: opt.HtmlPath = None,
) -> None:
    """Where API, hybrid and self-hosted plans break even."""
    with opt.one_line_errors():
        from fractions import Fraction

        from planner.answers.cost import cost_report
        from planner.catalog import load_catalog
        from planner.money.cost import load_prices

        volume = None if tokens_per_day is None else Fraction(tokens_per_day)
        table = load_prices(prices, load_catalog(catalog))
        opt.deliver(cost_report(table, prices.name, volume), as_json=as_json, html=html)
