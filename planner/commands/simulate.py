"""``loadline plan simulate`` and ``validate``: a trace against the twin, the twin against a measured run."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.commands import options as opt

if TYPE_CHECKING:
    from planner.sim.simulate import Progress
    from planner.traces.workload import Shaping

LINE_EVERY_S = 5.0


def simulate(
    trace: opt.TracePath,
    model: opt.ModelPath,
    compare: Annotated[
        Path | None,
        typer.Option(help="Measured run of the same trace to hold the twin against.", envvar="LOADLINE_PLAN_COMPARE"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the twin's run.", envvar="LOADLINE_PLAN_RUN_OUT")
    ] = None,
    window: opt.Window = None,
    speed: opt.Speed = 1.0,
    token_scale: opt.TokenScale = 1.0,
    max_requests: opt.MaxRequests = None,
    strict: opt.Strict = False,
    replicas: opt.Replicas = 1,
    router: opt.RouterName = "least_load",
    gateway: Annotated[
        Path | None,
        typer.Option(
            help="Settings of the gateway before the replicas: its limits, breakers, routing and weights are played.",
            envvar="LOADLINE_PLAN_GATEWAY",
        ),
    ] = None,
    seed: opt.Seed = 0,
    noise: opt.Noise = True,
    ranges: Annotated[
        bool | None,
        typer.Option(
            help="Play it 19 times more for 90% intervals; by default up to 20,000 requests.",
            envvar="LOADLINE_PLAN_RANGES",
        ),
    ] = None,
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
    """Play a trace against the twin, and beside a measured run if one is given.

    With --compare and no shaping options, the run's own shaping is taken.
    """
    with opt.one_line_errors():
        from planner.answers.simulation import MOST_FOR_RANGES, ranges_of, simulation_report
        from planner.compare import compare as join
        from planner.result import read_run
        from planner.sim import simulate as play
        from planner.sim.gateway import read_gateway
        from planner.steps.latency import read_model
        from planner.traces.workload import Shaping

        real = read_run(compare) if compare is not None else None
        if real is not None and compare is not None:
            opt.warned([real.doubt(compare.name)])
        shaping = opt.shaping(window, speed, token_scale, max_requests)
        if real is not None and shaping == Shaping():
            shaping = _shaping_of(real.header.shaping)
        fitted = read_model(model)
        limits = opt.limits(num_blocks, block_size, max_num_batched_tokens, max_num_seqs, max_model_len)
        front = None if gateway is None else read_gateway(gateway)
        behind = len(front.upstream) if front is not None and replicas == 1 else 0
        twin = replace(opt.fleet(fitted, behind or replicas, router, noise, limits), gateway=front)
        promise = opt.promise(slo, **opt.slo_limits(ttft_p95, itl_p95, e2e_p95, success, goodput))
        shaped = shaping.apply(opt.read_told(trace, strict=strict))
        run = play(
            shaped,
            twin,
            seed=seed,
            slo=promise,
            shaping=shaping.model_dump(),
            model_name=fitted.engine.get("model", ""),
            progress=_progress(),
        )
        if out is not None:
            run.write(out)
            opt.note(f"wrote {out}")
        measured = (compare.stem, real, join(real, run)) if compare is not None and real is not None else None
        wanted = ranges if ranges is not None else len(shaped) <= MOST_FOR_RANGES
        if ranges is None and not wanted:
            opt.note(f"{len(shaped)} requests: intervals are left out; ask for them with --ranges")
        within = ranges_of(shaped, twin, seed=seed) if wanted else None
        report = simulation_report(run, run.summary(), shaped, fitted, measured, within)
        opt.deliver(report, as_json=as_json, html=html)


def validate(
    run: Annotated[
        Path,
        typer.Argument(help="Measured run with server observations, vLLM's spans, or an LLMServingSim bench."),
    ],
    split: Annotated[
        float,
        typer.Option(min=0.1, max=0.9, help="Share of the run to calibrate on.", envvar="LOADLINE_PLAN_SPLIT"),
    ] = 0.5,
    model: Annotated[
        Path | None,
        typer.Option(help="Model file to hold against the whole run instead.", envvar="LOADLINE_PLAN_VALIDATE_MODEL"),
    ] = None,
    max_error: Annotated[
        float | None,
        typer.Option(
            help="Exit code 1 when E2E p50 or p95 is further off than this ratio.", envvar="LOADLINE_PLAN_MAX_ERROR"
        ),
    ] = None,
    seed: opt.Seed = 0,
    noise: opt.Noise = True,
    replicas: opt.Replicas = 1,
    num_blocks: opt.NumBlocks = None,
    block_size: opt.BlockSize = None,
    max_num_batched_tokens: opt.BatchedTokens = None,
    max_num_seqs: opt.NumSeqs = None,
    max_model_len: opt.ModelLen = None,
    as_json: opt.AsJson = False,
    html: opt.HtmlPath = None,
) -> None:
    """Calibrate on the first part of a run, simulate, and print the error on the rest per percentile."""
    with opt.one_line_errors():
        from planner.answers.simulation import validation_report
        from planner.sim.simulate import versions
        from planner.steps.latency import read_model
        from planner.steps.measured import read_any
        from planner.steps.validate import validate as hold

        limits = opt.limits(num_blocks, block_size, max_num_batched_tokens, max_num_seqs, max_model_len)
        measured = read_any(run)
        opt.warned([measured.doubt(run.name)])
        found = hold(
            measured,
            str(run),
            split=split,
            model=read_model(model) if model is not None else None,
            fleet=lambda fitted: opt.fleet(fitted, replicas, "least_load", noise, limits),
            seed=seed,
        )
        report = validation_report(run.stem, found, measured, versions())
        opt.deliver(report, as_json=as_json, html=html)
        errors = found.comparison.metrics["e2e_sent_s"].error
        if max_error is not None and max(abs(errors.get(name, 0.0)) for name in ("p50", "p95")) > max_error:
            raise typer.Exit(1)


def _shaping_of(noted: dict[str, object]) -> "Shaping":
    from pydantic import ValidationError

    from planner.errors import RunError
    from planner.slo import first_fault
    from planner.traces.workload import Shaping

    try:
        return Shaping.model_validate(noted)
    except ValidationError as error:
        raise RunError(f"the run's shaping: {first_fault(error)}") from error


def _progress() -> "Progress":
    """A line on stderr every few seconds."""
    last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY_S:
            last = time.monotonic()
            opt.note(f"{done} of {total} requests simulated")

    return tell
