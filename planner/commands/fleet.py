"""``loadline plan fleet``: memory, GPU mix, spares and cost in one answer."""

from typing import Annotated

import typer

from planner.commands import options as opt


def fleet(
    trace: opt.TracePath,
    model_name: opt.ModelName,
    baseline: opt.Baseline = None,
    peak_factor: opt.PeakFactor = 3.0,
    growth: opt.Growth = 0.2,
    months: opt.Months = 0,
    n_plus: opt.NPlus = 2,
    gpu: opt.Gpus = None,
    weights: opt.Weights = "fp16",
    kv: opt.Kv = "fp16",
    cached_ratio: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.99,
            help="Share of prompt tokens that is cached, for the prices of tokens.",
            envvar="LOADLINE_PLAN_CACHED_RATIO",
        ),
    ] = 0.0,
    discount: Annotated[
        float, typer.Option(min=0, max=0.99, help="Taken off the GPUs' list prices.", envvar="LOADLINE_PLAN_DISCOUNT")
    ] = 0.0,
    people: Annotated[float, typer.Option(min=0, help="People, $ a month.", envvar="LOADLINE_PLAN_PEOPLE")] = 0.0,
    storage: Annotated[float, typer.Option(min=0, help="Storage, $ a month.", envvar="LOADLINE_PLAN_STORAGE")] = 0.0,
    egress: Annotated[
        float, typer.Option(min=0, help="Output that leaves, $ per GB.", envvar="LOADLINE_PLAN_EGRESS")
    ] = 0.0,
    api: Annotated[
        list[str] | None,
        typer.Option(help="API of the catalogue to price the same tokens by.", envvar="LOADLINE_PLAN_API"),
    ] = None,
    catalog: opt.OwnCatalog = None,
    window: opt.Window = None,
    token_scale: opt.TokenScale = 1.0,
    max_requests: opt.MaxRequests = None,
    strict: opt.Strict = False,
    seed: opt.Seed = 0,
    slo: opt.SloPath = None,
    ttft_p95: opt.TtftP95 = None,
    itl_p95: opt.ItlP95 = None,
    e2e_p95: opt.E2eP95 = None,
    as_json: opt.AsJson = False,
    html: opt.HtmlPath = None,
) -> None:
    """Size a fleet for hardware that has not been measured: what fits, the cheapest mix, N+k, the month's bill."""
    with opt.one_line_errors():
        from planner.answers.fleet import fleet_report
        from planner.catalog import load_catalog
        from planner.money.fleet import Terms, plan_fleet
        from planner.money.hardware import Layout, precision
        from planner.money.rent import offers
        from planner.room.growth import Demand
        from planner.traces.workload import stats

        book = load_catalog(catalog)
        sheet, apis = book.model(model_name), [book.api(name) for name in api or ()]
        gpus = [book.gpu(name) for name in gpu] if gpu else list(book.gpus)
        promise = opt.promise(slo, ttft_p95_s=ttft_p95, itl_p95_s=itl_p95, e2e_p95_s=e2e_p95)
        shaped = opt.shaping(window, 1.0, token_scale, max_requests).apply(opt.read_told(trace, strict=strict))
        found = offers(gpus, sheet, Layout(weights=precision(weights), kv=precision(kv)))
        demand = Demand(baseline or stats(shaped).mean_per_s, peak_factor, growth, months)
        terms = Terms(discount, people, storage, egress)
        with opt.solver_on_stderr():
            answer = plan_fleet(
                shaped, found, promise, demand, spare=n_plus, terms=terms, cached_ratio=cached_ratio, seed=seed,
                note=opt.note,
            )  # fmt: skip
        report = fleet_report(answer, found, sheet, book, apis, shaped, promise, demand, terms, spare=n_plus, seed=seed)
        opt.deliver(report, as_json=as_json, html=html)
