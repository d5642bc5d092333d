"""``loadline plan``: calibrate a twin, simulate, size a fleet, validate, and price it."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner import forecast_cli, hardware_cli
from planner import options as opt

if TYPE_CHECKING:
    from planner.calibrate import Evidence
    from planner.sim.simulate import Progress
    from planner.workload import Shaping

app = typer.Typer(no_args_is_help=True, help="Capacity under SLO, cost, calibration and simulation.")

app.command()(hardware_cli.fit)
app.command()(hardware_cli.mix)
app.command()(forecast_cli.forecast)

LINE_EVERY_S = 5.0


@app.command()
def calibrate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Runs with server observations, engine profiles, saved /steps answers.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="Prometheus-compatible server to take history from.", envvar="LOADLINE_PLAN_SOURCE"),
    ] = None,
    steps: Annotated[
        str | None, typer.Option(help="Engine to take recent steps from.", envvar="LOADLINE_PLAN_STEPS")
    ] = None,
    pool: Annotated[
        str | None, typer.Option(help="With --source: only this pool.", envvar="LOADLINE_PLAN_POOL")
    ] = None,
    minutes: Annotated[float, typer.Option(help="With --source: how far back.", envvar="LOADLINE_PLAN_MINUTES")] = 60.0,
    step_s: Annotated[
        float, typer.Option(help="With --source: length of an interval.", envvar="LOADLINE_PLAN_STEP_S")
    ] = 15.0,
    form: Annotated[
        str, typer.Option(help="linear, hinge, or auto for the better one.", envvar="LOADLINE_PLAN_FORM")
    ] = "auto",
    out: Annotated[Path, typer.Option("--out", "-o", help="Model file to write.", envvar="LOADLINE_PLAN_OUT")] = Path(
        "model.json"
    ),
    as_json: opt.AsJson = False,
    html: opt.HtmlPath = None,
) -> None:
    """Fit a step-time model to what an engine was seen to do."""
    with opt.one_line_errors():
        from planner.answers.calibration import calibration_report
        from planner.calibrate import from_engine, merge
        from planner.errors import ModelError

        if form not in ("auto", "linear", "hinge"):
            raise ModelError(f"form {form!r}: must be auto, linear or hinge")
        parts = [_evidence(path) for path in files or []]
        if source is not None:
            parts.append(_history(source, pool, minutes, step_s))
        if steps is not None:
            parts.append(from_engine(steps))
        if not parts:
            raise ModelError("nothing to calibrate from: give a run or profile file, --source or --steps")
        model = merge(parts).fit(form)
        model.write(out)
        opt.note(f"wrote {out}")
        opt.deliver(calibration_report(model), as_json=as_json, html=html)


@app.command()
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
    """Play a trace against the twin, and beside a measured run if one is given.

    With --compare and no shaping options, the run's own shaping is taken.
    """
    with opt.one_line_errors():
        from planner.answers.simulation import simulation_report
        from planner.compare import compare as join
        from planner.latency import read_model
        from planner.result import read_run
        from planner.sim import simulate as play
        from planner.workload import Shaping

        real = read_run(compare) if compare is not None else None
        shaping = opt.shaping(window, speed, token_scale, max_requests)
        if real is not None and shaping == Shaping():
            shaping = _shaping_of(real.header.shaping)
        fitted = read_model(model)
        limits = _limits(num_blocks, block_size, max_num_batched_tokens, max_num_seqs, max_model_len)
        twin = opt.fleet(fitted, replicas, router, noise, limits)
        promise = opt.promise(slo, **_slo_limits(ttft_p95, itl_p95, e2e_p95, success, goodput))
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
        opt.deliver(simulation_report(run, run.summary(), shaped, fitted, measured), as_json=as_json, html=html)


@app.command()
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
    baseline: Annotated[
        float | None,
        typer.Option(help="Mean requests/s today; the trace's own by default.", envvar="LOADLINE_PLAN_BASELINE"),
    ] = None,
    peak_factor: Annotated[
        float, typer.Option(help="Peak rate over mean rate.", envvar="LOADLINE_PLAN_PEAK_FACTOR")
    ] = 3.0,
    growth: Annotated[float, typer.Option(help="Growth per month; 0.2 is 20%.", envvar="LOADLINE_PLAN_GROWTH")] = 0.2,
    months: Annotated[int, typer.Option(help="Months to look ahead.", envvar="LOADLINE_PLAN_MONTHS")] = 6,
    n_plus: Annotated[
        int, typer.Option(min=0, help="Failure domains that may be gone at the peak.", envvar="LOADLINE_PLAN_N_PLUS")
    ] = 2,
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
    seeds: Annotated[int, typer.Option(min=1, help="Searches, for the interval.", envvar="LOADLINE_PLAN_SEEDS")] = 3,
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
        from planner.capacity import find_capacity
        from planner.growth import Demand, needs, safe_months
        from planner.latency import read_model
        from planner.sim.simulate import versions
        from planner.workload import stats

        fitted = read_model(model)
        limits = _limits(num_blocks, block_size, max_num_batched_tokens, max_num_seqs, max_model_len)
        twin = opt.fleet(fitted, replicas or 1, router, noise, limits)
        promise = opt.promise(slo, **_slo_limits(ttft_p95, itl_p95, e2e_p95, success, goodput))
        shaped = opt.shaping(window, speed, token_scale, max_requests).apply(opt.read_told(trace, strict=strict))
        demand = Demand(baseline or stats(shaped).mean_per_s, peak_factor, growth, months)
        found = find_capacity(
            shaped, twin, promise, requests=requests, seeds=seeds, seed=seed, precision=precision, note=opt.note
        )
        spares = {"spare": n_plus, "domain_replicas": domain_replicas}
        needed = needs(shaped, twin, promise, demand, found, requests=requests, seed=seed, note=opt.note, **spares)
        report = capacity_report(
            shaped, twin, fitted, promise, found, demand, needed, spare=n_plus, seed=seed, versions=versions()
        )
        opt.deliver(report, as_json=as_json, html=html)
        if replicas is not None and safe_months(needed, replicas) is None:
            raise typer.Exit(1)


@app.command()
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
        from planner.latency import read_model
        from planner.measured import read_any
        from planner.sim.simulate import versions
        from planner.validate import validate as hold

        limits = _limits(num_blocks, block_size, max_num_batched_tokens, max_num_seqs, max_model_len)
        measured = read_any(run)
        found = hold(
            measured,
            str(run),
            split=split,
            model=read_model(model) if model is not None else None,
            fleet=lambda fitted: opt.fleet(fitted, replicas, "least_load", noise, limits),
            seed=seed,
        )
        report = validation_report(
            run.stem, found.model, found.comparison, found.split, measured, found.twin, versions()
        )
        opt.deliver(report, as_json=as_json, html=html)
        errors = found.comparison.metrics["e2e_sent_s"].error
        if max_error is not None and max(abs(errors.get(name, 0.0)) for name in ("p50", "p95")) > max_error:
            raise typer.Exit(1)


@app.command()
def autoscale(
    trace: opt.TracePath,
    model: opt.ModelPath,
    usd_per_hour: Annotated[
        float, typer.Option(min=0, help="Price of one replica, $ per hour.", envvar="LOADLINE_PLAN_USD_PER_HOUR")
    ] = 2.0,
    cold_start_s: Annotated[
        float,
        typer.Option(
            min=0,
            help="From asking for a replica until it serves, seconds: VM 300, container 120, warm pool 10.",
            envvar="LOADLINE_PLAN_COLD_START_S",
        ),
    ] = 120.0,
    lag_s: Annotated[
        float, typer.Option(min=0, help="Age of the metrics that a policy sees.", envvar="LOADLINE_PLAN_LAG_S")
    ] = 15.0,
    cool_down_s: Annotated[
        float, typer.Option(min=0, help="How long fewer must be wanted first.", envvar="LOADLINE_PLAN_COOL_DOWN_S")
    ] = 300.0,
    most: Annotated[int, typer.Option(min=1, help="Most replicas.", envvar="LOADLINE_PLAN_MOST")] = 64,
    window: opt.Window = None,
    speed: opt.Speed = 1.0,
    token_scale: opt.TokenScale = 1.0,
    max_requests: opt.MaxRequests = None,
    strict: opt.Strict = False,
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
    """Play ten autoscaling policies on one trace: cost and promise side by side, with an oracle as the bound."""
    with opt.one_line_errors():
        from planner.answers.autoscale import autoscale_report
        from planner.autoscale import Question, compare
        from planner.capacity import find_capacity
        from planner.latency import read_model
        from planner.sim.scaling import Delays

        fitted = read_model(model)
        limits = _limits(num_blocks, block_size, max_num_batched_tokens, max_num_seqs, max_model_len)
        twin = opt.fleet(fitted, 1, "least_load", noise, limits)
        promise = opt.promise(slo, **_slo_limits(ttft_p95, itl_p95, e2e_p95, success, goodput))
        shaped = opt.shaping(window, speed, token_scale, max_requests).apply(opt.read_told(trace, strict=strict))
        found = find_capacity(shaped, twin, promise, seeds=1, seed=seed)
        delays = Delays(lag_s=lag_s, cold_start_s=cold_start_s, cool_down_s=cool_down_s, most=most)
        question = Question(shaped, twin, promise, found.requests_per_s, delays, usd_per_hour, seed)
        outcomes = compare(question, opt.note)
        opt.deliver(autoscale_report(question, outcomes, fitted), as_json=as_json, html=html)


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


def _evidence(path: Path) -> "Evidence":
    """What a file tells: a run, a profile or saved steps, told apart by content."""
    from planner.calibrate import from_file, from_run
    from planner.result import FORMAT, read_run

    try:
        with path.open("rb") as file:
            head = file.read(200)
    except OSError:
        head = b""
    if f'"{FORMAT}"'.encode() in head:
        return from_run(read_run(path), str(path))
    return from_file(path)


def _history(source: str, pool: str | None, minutes: float, step_s: float) -> "Evidence":
    from collector.client import Client
    from collector.signals import detect
    from planner.calibrate import from_history

    with Client(source) as client:
        now_s = time.time()
        return from_history(client, detect(client.metric_names()), now_s - minutes * 60, now_s, step_s, pool)


def _limits(
    num_blocks: int | None, block_size: int | None, batched_tokens: int | None, seqs: int | None, length: int | None
) -> dict[str, int]:
    given = {
        "num_blocks": num_blocks,
        "block_size": block_size,
        "max_num_batched_tokens": batched_tokens,
        "max_num_seqs": seqs,
        "max_model_len": length,
    }
    return {name: value for name, value in given.items() if value is not None}


def _slo_limits(
    ttft: float | None, itl: float | None, e2e: float | None, success: float | None, goodput: float | None
) -> dict[str, float | None]:
    return {
        "ttft_p95_s": ttft,
        "itl_p95_s": itl,
        "e2e_p95_s": e2e,
        "success_ratio": success,
        "goodput_ratio": goodput,
    }


def _shaping_of(noted: dict[str, object]) -> "Shaping":
    from pydantic import ValidationError

    from planner.errors import RunError
    from planner.slo import first_fault
    from planner.workload import Shaping

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
