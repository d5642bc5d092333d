"""How fast trace files are read and how little memory that takes: ``python -m benchmarks.trace_reading``.

Files of a given size are made of the sample (its times moved on with every copy), then inspected and converted in a
process of their own each, which reports its processor time and its peak memory.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from planner.readers import read_trace
from planner.traces.export import Export
from planner.traces.loading import Loading, Wanted
from planner.traces.profile import Profiler

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "traces" / "azure_conv_10min.csv"
KINDS = ("azure", "mooncake")
_PARTS = 1000


def azure_lines() -> Iterator[bytes]:
    """Azure CSV without end: the sample over and over, half an hour later each time."""
    trace = read_trace(SAMPLE).trace
    lengths = [f",{a},{b}\r\n".encode() for a, b in zip(trace.input_tokens, trace.output_tokens, strict=True)]
    yield b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    copy = 0
    while True:
        at = (trace.header.origin_ns + trace.arrival_ns + copy * 1_800_000_000_000).astype("datetime64[ns]")
        times = np.datetime_as_string(at, unit="ns")
        yield b"".join(
            f"{time[:10]} {time[11:27]}".encode() + rest for time, rest in zip(times.tolist(), lengths, strict=True)
        )
        copy += 1


def mooncake_lines() -> Iterator[bytes]:
    """Mooncake JSONL without end: prompts of 20 blocks on average, of which the first third is shared."""
    generator = np.random.default_rng(0)
    fresh, at = 100_000, 0
    while True:
        rows = []
        for blocks in generator.geometric(0.05, _PARTS).tolist():
            shared = blocks // 3
            start = int(generator.integers(0, 100)) * 1000
            ids = [*range(start, start + shared), *range(fresh, fresh + blocks - shared)]
            fresh += blocks - shared
            at += int(generator.integers(0, 500))
            rows.append(
                f'{{"timestamp": {at}, "input_length": {blocks * 512}, "output_length": 350, "hash_ids": {ids}}}\n'
            )
        yield "".join(rows).encode()


def make(path: Path, size_bytes: int, lines: Iterator[bytes]) -> None:
    """A file of about so many bytes."""
    with path.open("wb") as file:
        while file.tell() < size_bytes:
            file.write(next(lines))


def inspect(path: Path) -> int:
    """Every figure of ``replay inspect``; gives the requests."""
    profiler = Profiler()
    for piece in Loading(Wanted((path,)), None, whole=False).pieces():
        profiler.add(piece)
    return profiler.result().rows


def read(path: Path) -> int:
    """The pieces alone; gives the requests."""
    return sum(len(piece) for piece in Loading(Wanted((path,)), None, whole=False).pieces())


def convert(path: Path) -> int:
    """Write our own JSONL, zstd; gives the requests."""
    loading = Loading(Wanted((path,)), None, whole=False)
    export = Export(path.with_suffix(".out.zst"), "loadline")
    export.write(loading.pieces())
    rows = export.finish(loading.header()).requests
    export.path.unlink()
    return rows


DONE: dict[str, Callable[[Path], int]] = {"read": read, "inspect": inspect, "convert": convert}


def measure(what: str, path: Path) -> None:
    """In a process of its own: print requests, processor seconds and peak memory."""
    begun = time.process_time()
    rows = DONE[what](path)
    spent = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": rows, "cpu_s": spent, "peak_mib": peak}))


def main() -> None:
    """Make the files, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of each file")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where the files are made; a temporary one by default"
    )
    parser.add_argument("--only", nargs=2, metavar=("WHAT", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        measure(arguments.only[0], Path(arguments.only[1]))
        return
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for kind, lines in zip(KINDS, (azure_lines(), mooncake_lines()), strict=True):
            path = Path(folder) / f"{kind}.trace"
            make(path, int(arguments.gigabytes * 1e9), lines)
            for what in DONE:
                command = [sys.executable, "-m", "benchmarks.trace_reading", "--only", what, str(path)]
                found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                print(f"{kind} {what}: {found}", file=sys.stderr)
                name = f"{kind}, {path.stat().st_size / 1e9:.2f} GB, {what}"
                rows.append({"what": name, "ours": round(found["rows"] / found["cpu_s"]), "unit": "requests/CPU-s"})
                memory = {"what": f"{name}: peak memory", "ours": round(found["peak_mib"]), "unit": "MiB"}
                rows.append({**memory, "lower_is_better": True})
            path.unlink()
    print(json.dumps({"benchmark": "trace_reading", "rows": rows}))


if __name__ == "__main__":
    main()
