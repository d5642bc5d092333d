"""A run's requests as a table of one row each: CSV, and Parquet where pyarrow is installed."""

import csv
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from planner.errors import RunError
from planner.result import Run

COLUMNS = (
    "row_id",
    "status",
    "due_s",
    "sent_s",
    "first_token_s",
    "last_token_s",
    "end_s",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "server_ttft_s",
    "ttft_due_s",
    "ttft_sent_s",
    "tpot_s",
    "e2e_due_s",
    "e2e_sent_s",
    "lag_s",
    "warm_up",
    "error",
)


def columns(run: Run) -> dict[str, list[Any]]:
    """``COLUMNS`` by name; None where there is nothing."""
    requests, latencies = run.requests, run.latencies()
    server = requests.server_ttft_s
    found: dict[str, list[Any]] = {}
    for name in COLUMNS:
        if name == "error":
            found[name] = list(requests.error)
        elif name == "warm_up":
            found[name] = (requests.due_s < run.header.warm_up_s).tolist()
        elif name == "server_ttft_s" and server is None:
            found[name] = [None] * len(requests)
        else:
            values = latencies[name] if name in latencies else getattr(requests, name)
            missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), dtype=bool)
            found[name] = [None if gone else value for value, gone in zip(values.tolist(), missing, strict=True)]
    return found


def write_csv(run: Run, path: Path) -> None:
    """Write the table as CSV, nothing as empty. Raises RunError when the file cannot be written."""
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(zip(*columns(run).values(), strict=True))
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from error


def write_parquet(run: Run, path: Path) -> None:
    """Write the table as Parquet. Raises RunError without pyarrow, or when the file cannot be written."""
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise RunError("Parquet needs pyarrow (pip install pyarrow); --csv and --json need nothing") from error
    try:
        parquet.write_table(arrow.table(columns(run)), path)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error}") from error
