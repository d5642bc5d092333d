"""Options that several ``loadline plan`` commands share, and what they are turned into."""

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collector.model.errors import CollectorError
from planner.errors import PlannerError

if TYPE_CHECKING:
    from planner.report import Report
    from planner.sim import Twin
    from planner.slo import Slo
    from planner.steps.latency import StepModel
    from planner.traces.trace import Trace
    from planner.traces.workload import Shaping


def _env(name: str) -> str:
    return f"LOADLINE_PLAN_{name}"


TracePath = Annotated[Path, typer.Argument(help="Trace file; its format is told by its content.")]
ModelPath = Annotated[
    Path, typer.Option("--model", help="Step-time model written by plan calibrate.", envvar=_env("MODEL"))
]
Window = Annotated[
    str | None, typer.Option(help="Only arrivals in START:END seconds of the trace.", envvar=_env("WINDOW"))
]
Speed = Annotated[float, typer.Option(help="Play this many times as fast.", envvar=_env("SPEED"))]
TokenScale = Annotated[float, typer.Option(help="Factor on prompt and output lengths.", envvar=_env("TOKEN_SCALE"))]
MaxRequests = Annotated[int | None, typer.Option(help="Only the first N requests.", envvar=_env("MAX_REQUESTS"))]
Strict = Annotated[bool, typer.Option(help="Stop at the first row that cannot be used.", envvar=_env("STRICT"))]
Replicas = Annotated[int, typer.Option(help="Replicas of the engine.", envvar=_env("REPLICAS"))]
RouterName = Annotated[
    str,
    typer.Option(
        help="least_load, round_robin, or a gateway's: weighted_least_load, weighted_round_robin, prefix.",
        envvar=_env("ROUTER"),
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.", envvar=_env("SEED"))]
Noise = Annotated[
    bool, typer.Option(help="Draw step times from the calibration's residuals, not their mean.", envvar=_env("NOISE"))
]
NumBlocks = Annotated[int | None, typer.Option(help="KV blocks of a replica.", envvar=_env("NUM_BLOCKS"))]
BlockSize = Annotated[int | None, typer.Option(help="Tokens in a KV block.", envvar=_env("BLOCK_SIZE"))]
BatchedTokens = Annotated[
    int | None, typer.Option(help="Most tokens computed in one step.", envvar=_env("MAX_NUM_BATCHED_TOKENS"))
]
NumSeqs = Annotated[int | None, typer.Option(help="Most requests running at once.", envvar=_env("MAX_NUM_SEQS"))]
ModelLen = Annotated[
    int | None, typer.Option(help="Most tokens of prompt and output together.", envvar=_env("MAX_MODEL_LEN"))
]
SloPath = Annotated[
    Path | None, typer.Option("--slo", help="TOML file with the promise, in its table [slo].", envvar=_env("SLO"))
]
TtftP95 = Annotated[float | None, typer.Option(help="TTFT p95 limit, seconds.", envvar=_env("TTFT_P95"))]
ItlP95 = Annotated[float | None, typer.Option(help="ITL p95 limit, seconds.", envvar=_env("ITL_P95"))]
E2eP95 = Annotated[float | None, typer.Option(help="E2E p95 limit, seconds.", envvar=_env("E2E_P95"))]
Success = Annotated[float | None, typer.Option(help="Share of requests that must succeed.", envvar=_env("SUCCESS"))]
Goodput = Annotated[
    float | None, typer.Option(help="Share of requests that must meet every latency.", envvar=_env("GOODPUT"))
]
Source = Annotated[str | None, typer.Option(help="Prometheus-compatible server to read from.", envvar=_env("SOURCE"))]
Pool = Annotated[str | None, typer.Option(help="Only this pool of the source.", envvar=_env("POOL"))]
Steps = Annotated[str | None, typer.Option(help="Engine to take recent steps from.", envvar=_env("STEPS"))]
Baseline = Annotated[
    float | None, typer.Option(help="Mean requests/s today; the trace's own by default.", envvar=_env("BASELINE"))
]
PeakFactor = Annotated[float, typer.Option(min=1, help="Peak rate over mean rate.", envvar=_env("PEAK_FACTOR"))]
Growth = Annotated[float, typer.Option(help="Growth per month; 0.2 is 20%.", envvar=_env("GROWTH"))]
Months = Annotated[int, typer.Option(help="Months to look ahead.", envvar=_env("MONTHS"))]
NPlus = Annotated[
    int,
    typer.Option(
        min=0,
        help="How many may be gone at the peak: failure domains of a fleet, replicas of each kind or of the cloud.",
        envvar=_env("N_PLUS"),
    ),
]
ModelName = Annotated[str, typer.Option("--model-name", help="Model of the catalogue.", envvar=_env("MODEL_NAME"))]
Gpus = Annotated[list[str] | None, typer.Option("--gpu", help="Only these GPUs.", envvar=_env("GPU"))]
Weights = Annotated[str, typer.Option(help="Numbers of the weights: fp16, fp8, int8 or int4.", envvar=_env("WEIGHTS"))]
Kv = Annotated[str, typer.Option(help="Numbers of the KV cache: fp16, fp8 or int8.", envvar=_env("KV"))]
OwnCatalog = Annotated[
    Path | None,
    typer.Option("--catalog", help="YAML whose entries replace the shipped ones.", envvar=_env("CATALOG")),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
HtmlPath = Annotated[
    Path | None, typer.Option("--html", help="Write the report as one HTML page.", envvar=_env("HTML"))
]


class one_line_errors:  # noqa: N801 — reads as a statement
    """Turns an error raised on purpose into its line on stderr and exit code 2."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Print and exit, for errors raised on purpose."""
        if isinstance(error, PlannerError | CollectorError):
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from error


@contextmanager
def solver_on_stderr() -> Iterator[None]:
    """HiGHS prints a line of its own now and then, past Python, where a report belongs: meanwhile stdout is stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)


def note(text: str) -> None:
    """Tell progress on stderr."""
    typer.echo(text, err=True)


def warned(doubts: Iterable[str | None]) -> tuple[str, ...]:
    """Those doubts that there are, each told on stderr."""
    found = tuple(doubt for doubt in doubts if doubt is not None)
    for doubt in found:
        note(f"warning: {doubt}")
    return found


def read_told(path: Path, *, strict: bool = False, kind: str | None = None, quarantine: Path | None = None) -> "Trace":
    """Read a trace; tell of rows with problems on stderr and put those set aside into ``quarantine``, if given."""
    from planner.readers import problems, quarantine_file, read_trace

    with quarantine_file(quarantine) if quarantine else nullcontext() as sink:
        read = read_trace(path, strict=strict, kind=kind, sink=sink)
    for line in problems(path, read.account):
        note(line)
    for remark, count in read.account.remarks.items():
        note(f"{path}: {remark}" + (f" ({count})" if count > 1 else ""))
    aside = read.counts.quarantined + read.counts.parts_quarantined
    if aside and quarantine is not None:
        note(f"{quarantine}: the {aside} rows that were set aside")
    elif aside:
        note(f"{path}: `loadline replay inspect --quarantine FILE` writes the {aside} rows that were set aside to FILE")
    return read.trace


def shaping(window: str | None, speed: float, token_scale: float, max_requests: int | None) -> "Shaping":
    """The shaping options as a value. Raises WorkloadError."""
    from pydantic import ValidationError

    from planner.errors import WorkloadError
    from planner.slo import first_fault
    from planner.traces.workload import Shaping, parse_window

    start_s, end_s = parse_window(window) if window else (None, None)
    try:
        return Shaping(
            window_start_s=start_s, window_end_s=end_s, max_requests=max_requests, speed=speed, token_scale=token_scale
        )
    except ValidationError as error:
        raise WorkloadError(first_fault(error)) from error


def promise(path: Path | None, **limits: float | None) -> "Slo":
    """The promise of a file (or the default one), single limits replaced. Raises SloError."""
    from pydantic import ValidationError

    from planner.errors import SloError
    from planner.slo import Slo, first_fault, load_slo

    base = load_slo(path) if path is not None else Slo()
    given = {name: value for name, value in limits.items() if value is not None}
    try:
        return Slo.model_validate({**base.model_dump(), **given})
    except ValidationError as error:
        raise SloError(f"promise: {first_fault(error)}") from error


def limits(
    num_blocks: int | None, block_size: int | None, batched_tokens: int | None, seqs: int | None, length: int | None
) -> dict[str, int]:
    """The scheduler limits that were given."""
    given = {
        "num_blocks": num_blocks,
        "block_size": block_size,
        "max_num_batched_tokens": batched_tokens,
        "max_num_seqs": seqs,
        "max_model_len": length,
    }
    return {name: value for name, value in given.items() if value is not None}


def slo_limits(
    ttft: float | None, itl: float | None, e2e: float | None, success: float | None, goodput: float | None
) -> dict[str, float | None]:
    """The clauses of a promise under their names, as ``promise`` takes them."""
    return {
        "ttft_p95_s": ttft,
        "itl_p95_s": itl,
        "e2e_p95_s": e2e,
        "success_ratio": success,
        "goodput_ratio": goodput,
    }


def fleet(model: "StepModel", replicas: int, router: str, noise: bool, limits: dict[str, Any]) -> "Twin":
    """The twin that the options describe; tells on stderr when noise is asked for and unknown."""
    from planner.sim import Twin

    twin = Twin.of(model, replicas=replicas, router=router, noise=noise, **limits)
    if noise and not twin.noise:
        note("the model was fitted on sums over intervals: the noise of single steps is unknown and left out")
    return twin


def deliver(report: "Report", *, as_json: bool, html: Path | None) -> None:
    """Print the report on stdout and write its page. Raises PlannerError when the page cannot be written."""
    from planner.report import to_markdown

    if html is not None:
        write_page(report, html)
    sys.stdout.write(report.to_json() + "\n" if as_json else to_markdown(report))


def write_page(report: "Report", path: Path) -> None:
    """Write the report's page. Raises PlannerError when it cannot be written."""
    from planner.report import to_html

    write_text(to_html(report), path)


def write_text(text: str, path: Path) -> None:
    """Write a file and tell of it on stderr. Raises PlannerError when it cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PlannerError(f"{path}: cannot be written: {error.strerror}") from error
    note(f"wrote {path}")
