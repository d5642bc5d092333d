"""A load by the hour, from a CSV file or from a Prometheus-compatible server."""

import csv
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from collector.client import Client
from collector.signals import detect
from planner.errors import CapacityError

FloatArray = npt.NDArray[np.float64]
HOUR_S = 3600.0


def hourly_from_csv(path: Path) -> tuple[float, FloatArray]:
    """(start of the first hour, Unix seconds; mean value by hour, NaN where there is none).

    Raises CapacityError with the line that cannot be read; one header line is passed over.
    """
    times: list[float] = []
    values: list[float] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for number, row in enumerate(csv.reader(file), 1):
                if not row or (number == 1 and not _is_number(row[-1])):
                    continue
                try:
                    times.append(_time_s(row[0]))
                    values.append(float(row[1]))
                except (ValueError, IndexError) as error:
                    raise CapacityError(f"{path}:{number}: {','.join(row)!r} is not a time and a number") from error
    except OSError as error:
        raise CapacityError(f"{path}: cannot be read: {error.strerror}") from error
    if not times:
        raise CapacityError(f"{path}: holds no load")
    return _by_hour(np.array(times), np.array(values))


def hourly_from_source(url: str, pool: str | None, now_s: float, hours: int) -> tuple[float, FloatArray]:
    """Finished requests per second by the hour, until the last whole hour. Raises CapacityError, SourceError."""
    end_s = now_s // HOUR_S * HOUR_S
    with Client(url) as client:
        vocabulary = detect(client.metric_names())
        signal = "e2e_latency" if vocabulary.present("e2e_latency") else "requests"
        expression = vocabulary.rate(signal, "1h", (), f'pool="{pool}"' if pool else "")
        found = client.query_range(expression, end_s - (hours - 1) * HOUR_S, end_s, HOUR_S)
    if not found:
        raise CapacityError(f"{url}: no request finished in the last {hours} hours")
    return _by_hour(found[0].timestamps_ms / 1000.0 - HOUR_S, found[0].values)


def _by_hour(times_s: FloatArray, values: FloatArray) -> tuple[float, FloatArray]:
    hour = np.floor(times_s / HOUR_S).astype(np.int64)
    first = int(hour.min())
    known = np.isfinite(values)
    counts = np.bincount(hour[known] - first, minlength=int(hour.max()) - first + 1)
    sums = np.bincount(hour[known] - first, weights=values[known], minlength=len(counts))
    with np.errstate(invalid="ignore"):
        return first * HOUR_S, np.asarray(sums / np.where(counts > 0, counts, np.nan))


def _time_s(text: str) -> float:
    if _is_number(text):
        return float(text)
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
