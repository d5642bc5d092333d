"""``loadline plan autoscale``: autoscaling policies on one trace, and the chosen one as Kubernetes objects."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.commands import options as opt

if TYPE_CHECKING:
    from planner.room.autoscale import Question


def autoscale(
    trace: opt.TracePath,
    model: opt.ModelPath,
    usd_per_hour: Annotated[
        float, typer.Option(min=0, help="Price of one replica, $ per hour.", envvar="LOADLINE_PLAN_USD_PER_HOUR")
    ] = 2.0,
    start: Annotated[
        str,
        typer.Option(
            help="How replicas come: vm (300 s), container (120), serverless (30) or warm (10).",
            envvar="LOADLINE_PLAN_START",
        ),
    ] = "container",
    cold_start_s: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="From asking for a replica until it serves, seconds, in place of that of --start.",
            envvar="LOADLINE_PLAN_COLD_START_S",
        ),
    ] = None,
    interval_s: Annotated[
        float, typer.Option(min=1, help="Time between two decisions, seconds.", envvar="LOADLINE_PLAN_INTERVAL_S")
    ] = 15.0,
    lag_s: Annotated[
        float, typer.Option(min=0, help="Age of the metrics that a policy sees.", envvar="LOADLINE_PLAN_LAG_S")
    ] = 15.0,
    cool_down_s: Annotated[
        float, typer.Option(min=0, help="How long fewer must be wanted first.", envvar="LOADLINE_PLAN_COOL_DOWN_S")
    ] = 300.0,
    least: Annotated[int, typer.Option(min=1, help="Fewest replicas.", envvar="LOADLINE_PLAN_LEAST")] = 1,
    most: Annotated[int, typer.Option(min=1, help="Most replicas.", envvar="LOADLINE_PLAN_MOST")] = 64,
    policy: Annotated[
        str | None,
        typer.Option(
            help="Policy to export; by default the cheapest that keeps the promise.", envvar="LOADLINE_PLAN_POLICY"
        ),
    ] = None,
    hpa: Annotated[
        Path | None,
        typer.Option(help="Write the policy as a HorizontalPodAutoscaler here.", envvar="LOADLINE_PLAN_HPA"),
    ] = None,
    keda: Annotated[
        Path | None, typer.Option(help="Write the policy as a KEDA ScaledObject here.", envvar="LOADLINE_PLAN_KEDA")
    ] = None,
    dialect: Annotated[
        list[str] | None,
        typer.Option(
            help="Engine or exporter whose metric names to write; may be repeated (vllm).",
            envvar="LOADLINE_PLAN_DIALECT",
        ),
    ] = None,
    deployment: Annotated[
        str, typer.Option(help="Deployment that is scaled.", envvar="LOADLINE_PLAN_DEPLOYMENT")
    ] = "engine",
    namespace: Annotated[
        str, typer.Option(help="Its Kubernetes namespace.", envvar="LOADLINE_PLAN_NAMESPACE")
    ] = "default",
    prometheus: Annotated[
        str, typer.Option(help="Prometheus that KEDA asks.", envvar="LOADLINE_PLAN_PROMETHEUS")
    ] = "http://prometheus.monitoring:9090",
    pool: opt.Pool = None,
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
    """Play ten autoscaling policies on one trace: cost and promise side by side, with an oracle as the bound.

    ``--hpa`` and ``--keda`` write the chosen policy as Kubernetes objects, in the engine's own metric names.
    """
    with opt.one_line_errors():
        from planner.answers.autoscale import autoscale_report
        from planner.room.autoscale import Question, best, compare, other_starts, start_s
        from planner.room.capacity import find_capacity
        from planner.sim.scaling import Delays
        from planner.steps.latency import read_model

        fitted = read_model(model)
        limits = opt.limits(num_blocks, block_size, max_num_batched_tokens, max_num_seqs, max_model_len)
        twin = opt.fleet(fitted, 1, "least_load", noise, limits)
        promise = opt.promise(slo, **opt.slo_limits(ttft_p95, itl_p95, e2e_p95, success, goodput))
        cold_s = start_s(start) if cold_start_s is None else cold_start_s
        delays = Delays(interval_s, lag_s, cold_s, cool_down_s, least, most)
        shaped = opt.shaping(window, speed, token_scale, max_requests).apply(opt.read_told(trace, strict=strict))
        found = find_capacity(shaped, twin, promise, seeds=1, seed=seed)
        question = Question(shaped, twin, promise, found.requests_per_s, delays, usd_per_hour, seed)
        outcomes = compare(question, opt.note)
        chosen = policy or best(outcomes, promise).policy
        if hpa is not None or keda is not None:
            place = (deployment, namespace, prometheus, pool)
            _export(question, chosen, dialect or ["vllm"], place, hpa, keda)
        starts = other_starts(question, chosen)
        opt.deliver(autoscale_report(question, outcomes, fitted, chosen, starts), as_json=as_json, html=html)


def _export(
    question: "Question",
    policy: str,
    dialects: list[str],
    place: tuple[str, str, str, str | None],
    hpa: Path | None,
    keda: Path | None,
) -> None:
    from collector.signals import Vocabulary, load_dialects
    from planner.errors import CapacityError
    from planner.room import manifests

    known = {dialect.engine: dialect for dialect in load_dialects()}
    unknown = [name for name in dialects if name not in known]
    if unknown:
        raise CapacityError(f"--dialect is {unknown[0]!r}; allowed are {', '.join(sorted(known))}")
    vocabulary = Vocabulary.of([known[name] for name in dialects])
    where = manifests.Place(*place)
    for path, write in ((hpa, manifests.hpa), (keda, manifests.keda)):
        if path is not None:
            opt.write_text(write(question, policy, vocabulary, where), path)
