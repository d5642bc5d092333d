"""``loadline plan capacity``: how much a fleet carries, how many replicas are needed, and when."""

from typing import Annotated

import typer

from planner.commands import options as opt


def capacity(
    trace: opt.TracePath,
    model: opt.ModelPath,
    replicas: Annotated[
        int | None,
        typer.Option(
            help="Replicas today; given, exit code 1 says that they do not carry this month's peak.",
            envvar="LOADLINE_PLAN_REPLICAS",
        ),
    ] = None,
    baseline: opt.Baseline = None,
    peak_factor: opt.PeakFactor = 3.0,
    growth: opt.Growth = 0.2,
    months: opt.Months = 6,
    event: Annotated[
        list[str] | None,
        typer.Option(
            help="MONTH:FACTOR, a launch that multiplies that month's peak; may be repeated.",
            envvar="LOADLINE_PLAN_EVENT",
        ),
    ] = None,
    retrieval: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of requests that ask a vector database.", envvar="LOADLINE_PLAN_RETRIEVAL"
        ),
    ] = 0.5,
    n_plus: opt.NPlus = 2,
    domain_replicas: Annotated[
        int,
        typer.Option(
            min=1,
            help="Replicas in one failure domain (node); a replica over many GPUs is 1.",
            envvar="LOADLINE_PLAN_DOMAIN",
        ),
    ] = 1,
    requests: Annotated[
        int, typer.Option(min=100, help="Fewest requests per simulation.", envvar="LOADLINE_PLAN_REQUESTS")
    ] = 3000,
    seeds: Annotated[int, typer.Option(min=1, help="Searches, for the interval.", envvar="LOADLINE_PLAN_SEEDS")] = 4,
    precision: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="Half-width to reach, as a ratio: 0.02 plays 10,000 requests a run and adds seeds, up to 12.",
            envvar="LOADLINE_PLAN_PRECISION",
        ),
    ] = None,
    window: opt.Window = None,
    speed: opt.Speed = 1.0,
    token_scale: opt.TokenScale = 1.0,
    max_requests: opt.MaxRequests = None,
    strict: opt.Strict = False,
    router: opt.RouterName = "least_load",
    seed: opt.Seed = 0,
    noise: opt.Noise = True,
    num_blocks: opt.NumBlocks = None,
    block_size: opt.BlockSize = None,
    max_num_batched_tokens: opt.BatchedTokens = None,
    max_num_seqs: opt.NumSeqs = None,
    max_model_len: opt.ModelLen = None,
    slo: opt.SloPath = None,
    ttft_p95: opt.TtftP95 = None,
    itl_p95: opt.ItlP95 = None,
    e2e_p95: opt.E2eP95 = None,
    success: opt.Success = None,
    goodput: opt.Goodput = None,
    as_json: opt.AsJson = False,
    html: opt.HtmlPath = None,
) -> None:
    """Find the highest rate under the promise, and the replicas that the coming months need."""
    with opt.one_line_errors():
        from planner.answers.capacity import capacity_report
        from planner.money.beside import Rules
        from planner.room.capacity import find_capacity
        from planner.room.growth import Demand, needs, parse_event, safe_months
        from planner.sim.simulate import versions
        from planner.steps.latency import read_model
        from planner.traces.workload import stats

        fitted = read_model(model)
        limits = opt.limits(num_blocks, block_size, max_num_batched_tokens, max_num_seqs, max_model_len)
        twin = opt.fleet(fitted, replicas or 1, router, noise, limits)
        promise = opt.promise(slo, **opt.slo_limits(ttft_p95, itl_p95, e2e_p95, success, goodput))
        shaped = opt.shaping(window, speed, token_scale, max_requests).apply(opt.read_told(trace, strict=strict))
        demand = Demand(
            baseline or stats(shaped).mean_per_s, peak_factor, growth, months, tuple(map(parse_event, event or ()))
        )
        found = find_capacity(
            shaped, twin, promise, requests=requests, seeds=seeds, seed=seed, precision=precision, note=opt.note
        )
        spares = {"spare": n_plus, "domain_replicas": domain_replicas}
        needed = needs(shaped, twin, promise, demand, found, requests=requests, seed=seed, note=opt.note, **spares)
        report = capacity_report(
            shaped,
            twin,
            fitted,
            promise,
            found,
            demand,
            needed,
            spare=n_plus,
            seed=seed,
            versions=versions(),
            rules=Rules(retrieval_ratio=retrieval),
        )
        opt.deliver(report, as_json=as_json, html=html)
        if replicas is not None and safe_months(needed, replicas) is None:
            raise typer.Exit(1)
