"""``isolation``: what it costs to run the server in a sandbox or a container instead of as a plain process."""

import ctypes
import errno
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from probe_engine.errors import ExperimentError
from probe_engine.experiments.drive import quantile
from probe_engine.experiments.figure import Bars
from probe_engine.experiments.options import Options
from probe_engine.experiments.report import Cell, Report
from probe_engine.experiments.sandbox import REFUSED
from probe_engine.experiments.server_process import Server, Serving, running, serve_command

MEMORY_BYTES = 8 << 30
STARTS, ASKED = 3, 60
QUICK_STARTS, QUICK_ASKED = 1, 8
OUTPUT_TOKENS = 16
UNCOUNTED = 2  # the first requests on a connection
PROBED = ("ptrace", "unshare", "mount", "chroot", "setns", "umount2")
ANSWER_LIMIT_S = 60
CONTAINERS = ("docker", "podman")


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere to run a command: what is put before it. missing: why it cannot be used; None: it can."""

    name: str
    before: tuple[str, ...] = ()
    missing: str | None = None
    own_python: bool = True  # whether this interpreter and its packages are to be found inside


def run(options: Options, serving: Serving = running) -> Report:
    """Start, ask and weigh the same server everywhere it can be run."""
    starts, asked = (QUICK_STARTS, QUICK_ASKED) if options.quick else (STARTS, ASKED)
    rows: list[dict[str, Cell]] = []
    left_out: list[str] = []
    for place in places(options.image):
        missing = place.missing or unusable(place)
        if missing is not None:
            left_out.append(f"{place.name} was not run: {missing}.")
            continue
        options.tell(f"isolation: {place.name}")
        rows.append(measured(place, options, starts, asked, serving))
    names = tuple(str(row["where"]) for row in rows)
    boxed = next((row for row in rows if row["where"] == "sandbox"), None)
    return Report(
        name="isolation",
        title="Plain process, sandbox and container",
        question="What do a sandbox and a container add to the start, the latency and the memory of the server?",
        answer="; ".join(
            f"{row['where']}: {float(str(row['start processor s'])):.2f} s of processor time to start, "
            f"{float(str(row['processor ms a request'])):.1f} ms a request, {float(str(row['memory MB'])):.0f} MB"
            for row in rows
        ),
        setup={
            **options.setup(),
            "starts": f"{starts} each, the median is told",
            "requests": f"{asked} one after the other, {OUTPUT_TOKENS} tokens each, lengths of the trace (at most 256)",
            "sandbox": f"at most {MEMORY_BYTES >> 30} GiB of data, no core dumps, {len(REFUSED)} system calls refused",
        },
        rows=rows,
        figures=(
            Bars(
                "Processor time of a start (s)",
                names,
                (("", tuple(float(str(row["start processor s"])) for row in rows)),),
                "s",
            ),
            Bars(
                "Latency of a request (ms)",
                names,
                tuple((q, tuple(float(str(row[f"latency {q} ms"])) for row in rows)) for q in ("p50", "p95")),
                "ms",
            ),
        ),
        notes=(
            *left_out,
            "The sandbox's filter makes some sixty comparisons at each system call, of which a request makes a few "
            "dozen, and its launcher is one more start of the interpreter; the rest is the machine's noise.",
            "Processor time is of the server and what wraps it, and is what compares; times by the wall's clock are "
            "also their neighbours' on the machine.",
            "The sandbox refuses by number: clone3 can still ask for namespaces, which needs privileges that "
            "no_new_privs keeps away from anybody but root.",
            f"Probed in each place: {', '.join(PROBED)}; the column tells how many are refused outright."
            " A container refuses few: it gives a world of its own to do them in.",
        ),
        holds=boxed is not None and boxed["dangerous calls refused"] == f"{len(PROBED)} of {len(PROBED)}",
    )


def places(image: str | None) -> tuple[Place, ...]:
    """Everywhere that a server might be run, plain first."""
    python = sys.executable
    sandbox = (python, "-m", "probe_engine.experiments.sandbox", str(MEMORY_BYTES))
    found = [Place("plain process"), Place("sandbox", sandbox)]
    bubblewrap = shutil.which("bwrap")
    wrapped = ("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--unshare-pid")
    more = ("--unshare-ipc", "--unshare-uts", "--cap-drop", "ALL", "--die-with-parent")
    if bubblewrap is None:
        found.append(Place("bubblewrap", missing="bwrap is not installed"))
    else:
        found.append(Place("bubblewrap", (bubblewrap, *wrapped, *more)))
    for engine in CONTAINERS:
        path = shutil.which(engine)
        if path is None:
            found.append(Place(engine, missing=f"{engine} is not installed"))
        elif image is None:
            found.append(Place(engine, missing="no --image with loadline in it was given"))
        else:
            found.append(Place(engine, (path, "run", "--rm", "--init", "--network", "host", image), own_python=False))
    return tuple(found)


def unusable(place: Place) -> str | None:
    """Why nothing can be run there; None where ``true`` runs."""
    if not place.before:
        return None
    try:
        tried = subprocess.run([*place.before, "true"], capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if tried.returncode == 0 else (tried.stderr.strip().splitlines() or ["it fails"])[-1][:200]


def measured(place: Place, options: Options, starts: int, asked: int, serving: Serving) -> dict[str, Cell]:
    """One place as a row."""
    cold_s, latencies_s, megabytes, start_cpu_s, asked_cpu_s = [], [], [], [], []
    arguments = ("--model", options.model, "--dtype", options.dtype)
    command = serve_command(*arguments)
    if not place.own_python:
        command[0] = "python"
    for _ in range(starts):
        with serving([*place.before, *command]) as server:
            cold_s.append(server.cold_start_s)
            start_cpu_s.append(server.processor_s())
            latencies_s += ask(server, options, asked)
            asked_cpu_s.append((server.processor_s() - start_cpu_s[-1]) / (asked + UNCOUNTED))
            megabytes.append(server.memory_bytes() / 1e6)
    return {
        "where": place.name,
        "start s": statistics.median(cold_s),
        "start processor s": statistics.median(start_cpu_s),
        "processor ms a request": 1000 * statistics.median(asked_cpu_s),
        "latency p50 ms": 1000 * quantile(latencies_s, 0.5),
        "latency p95 ms": 1000 * quantile(latencies_s, 0.95),
        "memory MB": statistics.median(megabytes),
        "dangerous calls refused": probed(place),
    }


def ask(server: Server, options: Options, asked: int) -> list[float]:
    """Seconds of ``asked`` requests, one after the other on one connection; two before them are not counted."""
    latencies_s = []
    with httpx.Client(base_url=server.url, timeout=ANSWER_LIMIT_S) as client:
        for at in range(asked + UNCOUNTED):
            row = options.trace[at % len(options.trace)]
            prompt = [97] * min(row.prompt_tokens, 256)
            body = {"prompt": prompt, "max_tokens": OUTPUT_TOKENS, "ignore_eos": True, "temperature": 0}
            began_s = time.perf_counter()
            answer = client.post("/v1/completions", json=body)
            if answer.status_code != 200:
                raise ExperimentError(f"the server answered {answer.status_code}: {answer.text[:200]}")
            latencies_s.append(time.perf_counter() - began_s)
    return latencies_s[UNCOUNTED:]


def probed(place: Place) -> str:
    """Run ``probe_calls`` there: how many of the calls are refused."""
    python = sys.executable if place.own_python else "python"
    code = "from probe_engine.experiments.isolation import probe_calls; probe_calls()"
    command = [*place.before, python, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    try:
        results: Mapping[str, bool] = json.loads(ran.stdout)
    except json.JSONDecodeError as error:
        raise ExperimentError(f"{place.name}: the probe said {ran.stderr[-200:]!r}") from error
    return f"{sum(results.values())} of {len(results)}"


def probe_calls() -> None:
    """Try each of ``PROBED`` with arguments that can do nothing; prints which are refused (EPERM), as JSON."""
    libc = ctypes.CDLL(None, use_errno=True)
    nowhere = b"/no/such/place"
    calls: dict[str, Callable[[], object]] = {
        "ptrace": lambda: libc.ptrace(9999, 0, None, None),
        "unshare": lambda: libc.unshare(0),
        "mount": lambda: libc.mount(b"none", nowhere, b"none", 0, None),
        "chroot": lambda: libc.chroot(nowhere),
        "setns": lambda: libc.setns(-1, 0),
        "umount2": lambda: libc.umount2(nowhere, 0),
    }
    print(json.dumps({name: _refused(call) for name, call in calls.items()}))  # noqa: T201


def _refused(call: Callable[[], object]) -> bool:
    ctypes.set_errno(0)
    call()
    return ctypes.get_errno() == errno.EPERM
