"""``loadline plan patterns | placement``: patterns of use priced, and what of a load to serve at the edge."""

from typing import Annotated

import typer

from planner.commands import options as opt


def patterns(
    names: Annotated[
        list[str] | None, typer.Argument(help="Patterns of the catalogue: start-up, growth, enterprise. All if none.")
    ] = None,
    gpu: opt.Gpus = None,
    weights: opt.Weights = "fp8",
    kv: opt.Kv = "fp16",
    catalog: opt.OwnCatalog = None,
    seed: opt.Seed = 0,
    slo: opt.SloPath = None,
    ttft_p95: opt.TtftP95 = None,
    itl_p95: opt.ItlP95 = None,
    e2e_p95: opt.E2eP95 = None,
    as_json: opt.AsJson = False,
    html: opt.HtmlPath = None,
) -> None:
    """Price patterns of use: a fleet of one's own against an API, and what stands beside the engines."""
    with opt.one_line_errors():
        from planner.answers.patterns import patterns_report
        from planner.catalog import load_catalog
        from planner.money.hardware import Layout, precision
        from planner.money.patterns import price

        book = load_catalog(catalog)
        chosen = [book.pattern(name) for name in names] if names else list(book.patterns)
        gpus = [book.gpu(name) for name in gpu] if gpu else list(book.gpus)
        promise = opt.promise(slo, ttft_p95_s=ttft_p95, itl_p95_s=itl_p95, e2e_p95_s=e2e_p95)
        layout = Layout(weights=precision(weights), kv=precision(kv))
        with opt.solver_on_stderr():
            found = [price(one, book, gpus, promise, layout=layout, seed=seed, note=opt.note) for one in chosen]
        opt.deliver(patterns_report(found, book, promise, seed), as_json=as_json, html=html)


def placement(
    trace: opt.TracePath,
    model_name: opt.ModelName,
    edge_model: Annotated[
        str | None, typer.Option(help="Model at the edge; the same if absent.", envvar="LOADLINE_PLAN_EDGE_MODEL")
    ] = None,
    edge_gpu: Annotated[str, typer.Option(help="GPU of an edge replica.", envvar="LOADLINE_PLAN_EDGE_GPU")] = "L4",
    cloud_gpu: Annotated[str, typer.Option(help="GPU of a cloud replica.", envvar="LOADLINE_PLAN_CLOUD_GPU")] = "L40S",
    sites: Annotated[int, typer.Option(min=1, help="Edge sites.", envvar="LOADLINE_PLAN_SITES")] = 4,
    edge_rtt: Annotated[
        float, typer.Option(min=0, help="Round trip to an edge site, s.", envvar="LOADLINE_PLAN_EDGE_RTT")
    ] = 0.01,
    cloud_rtt: Annotated[
        float, typer.Option(min=0, help="Round trip to the cloud, s.", envvar="LOADLINE_PLAN_CLOUD_RTT")
    ] = 0.08,
    cloud_usd_per_gb: Annotated[
        float, typer.Option(min=0, help="Traffic to and from the cloud, $.", envvar="LOADLINE_PLAN_CLOUD_USD_PER_GB")
    ] = 0.09,
    edge_spare: Annotated[
        int, typer.Option(min=0, help="Spare replicas at each site.", envvar="LOADLINE_PLAN_EDGE_SPARE")
    ] = 1,
    n_plus: opt.NPlus = 2,
    baseline: opt.Baseline = None,
    peak_factor: opt.PeakFactor = 3.0,
    weights: opt.Weights = "fp8",
    kv: opt.Kv = "fp16",
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
    """What if the shorter requests were served at the edge; exit code 1 when no split keeps the promise."""
    with opt.one_line_errors():
        from planner.answers.placement import placement_report
        from planner.catalog import load_catalog
        from planner.money.hardware import Layout, precision
        from planner.money.placement import Side, best, splits
        from planner.money.rent import offers
        from planner.traces.workload import stats

        book, layout = load_catalog(catalog), Layout(weights=precision(weights), kv=precision(kv))
        promise = opt.promise(slo, ttft_p95_s=ttft_p95, itl_p95_s=itl_p95, e2e_p95_s=e2e_p95)
        shaped = opt.shaping(window, 1.0, token_scale, max_requests).apply(opt.read_told(trace, strict=strict))
        (near,) = offers([book.gpu(edge_gpu)], book.model(edge_model or model_name), layout)
        (far,) = offers([book.gpu(cloud_gpu)], book.model(model_name), layout)
        edge = Side("edge", near, edge_rtt, sites, edge_spare)
        cloud = Side("cloud", far, cloud_rtt, 1, n_plus, cloud_usd_per_gb)
        mean = baseline or stats(shaped).mean_per_s
        found = splits(shaped, edge, cloud, promise, mean * peak_factor, mean, seed=seed, note=opt.note)
        report = placement_report(found, edge, cloud, shaped, promise, mean * peak_factor, seed)
        opt.deliver(report, as_json=as_json, html=html)
        if best(found) is None:
            raise typer.Exit(1)
