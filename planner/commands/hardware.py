"""``loadline plan fit | mix``: questions about hardware that has not been measured, answered from data sheets."""

from typing import Annotated

import typer

from planner.commands import options as opt


def fit(
    model_name: opt.ModelName,
    gpu: opt.Gpus = None,
    tensor: Annotated[
        int, typer.Option(min=1, help="GPUs of a replica by tensor parallelism.", envvar="LOADLINE_PLAN_TENSOR")
    ] = 1,
    pipeline: Annotated[
        int, typer.Option(min=1, help="GPUs of a replica by pipeline.", envvar="LOADLINE_PLAN_PIPELINE")
    ] = 1,
    data: Annotated[
        int, typer.Option(min=1, help="Copies of that, sharing the requests.", envvar="LOADLINE_PLAN_DATA")
    ] = 1,
    weights: opt.Weights = "fp16",
    kv: opt.Kv = "fp16",
    catalog: opt.OwnCatalog = None,
    as_json: opt.AsJson = False,
    html: opt.HtmlPath = None,
) -> None:
    """What of a model fits on which GPUs: weights, activations, KV tokens. Exit code 1 when it fits on none."""
    with opt.one_line_errors():
        from planner.answers.hardware import fit_report
        from planner.catalog import load_catalog
        from planner.money.hardware import Layout, fit_memory, precision

        book = load_catalog(catalog)
        sheet = book.model(model_name)
        layout = Layout(tensor, pipeline, precision(weights), precision(kv), data=data)
        gpus = [book.gpu(name) for name in gpu] if gpu else list(book.gpus)
        found = [fit_memory(one, sheet, layout) for one in gpus]
        opt.deliver(fit_report(found, sheet, book), as_json=as_json, html=html)
        if not any(one.fits for one in found):
            raise typer.Exit(1)


def mix(
    trace: opt.TracePath,
    model_name: opt.ModelName,
    rate: Annotated[
        float | None,
        typer.Option(help="Requests/s to carry; the trace's own by default.", envvar="LOADLINE_PLAN_RATE"),
    ] = None,
    weights: opt.Weights = "fp16",
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
    """The cheapest mix of GPUs that keeps the promise for a trace's sizes, checked in the simulation."""
    with opt.one_line_errors():
        from planner.answers.hardware import mix_report
        from planner.catalog import load_catalog
        from planner.money.hardware import Layout, precision
        from planner.money.rent import offers, rent
        from planner.traces.workload import stats

        book = load_catalog(catalog)
        sheet = book.model(model_name)
        promise = opt.promise(slo, ttft_p95_s=ttft_p95, itl_p95_s=itl_p95, e2e_p95_s=e2e_p95)
        shaped = opt.shaping(window, 1.0, token_scale, max_requests).apply(opt.read_told(trace, strict=strict))
        found = offers(book.gpus, sheet, Layout(weights=precision(weights), kv=precision(kv)))
        per_s = rate if rate is not None else stats(shaped).mean_per_s
        with opt.solver_on_stderr():
            answer = rent(shaped, found, promise, per_s, seed=seed, note=opt.note)
        report = mix_report(answer, found, sheet, book, shaped, promise, per_s, seed)
        opt.deliver(report, as_json=as_json, html=html)
