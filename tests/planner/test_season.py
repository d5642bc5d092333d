import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from planner.cli import app
from planner.errors import CapacityError
from planner.room.history import hourly_from_csv
from planner.room.season import WEEK, season_forecast


def weekly(weeks: int, seed: int, growth: float = 0.02) -> np.ndarray:
    """Days and weeks, growth, and noise that remembers."""
    draw = np.random.default_rng(seed)
    hour = np.arange(weeks * WEEK)
    noise = np.zeros(len(hour))
    for at in range(1, len(hour)):
        noise[at] = 0.7 * noise[at - 1] + draw.normal(0, 0.1)
    season = 0.6 * np.sin(2 * np.pi * hour / 24) + 0.2 * np.sin(2 * np.pi * hour / WEEK)
    return np.exp(np.log(20) + growth * hour / WEEK + season + noise)


def test_nine_tenths_of_the_hours_ahead_lie_in_the_band_and_peaks_stay_under_theirs() -> None:
    inside, under = [], []
    for seed in range(40):
        series = weekly(14, seed, growth=0.01 * (seed % 5))
        found = season_forecast(series[:-WEEK], WEEK)
        ahead = series[-WEEK:]
        inside.append(float(((ahead >= found.low) & (ahead <= found.high)).mean()))
        under.append(ahead.max() <= found.peak)
    assert 0.87 <= np.mean(inside) <= 0.93
    assert np.mean(under) >= 0.92


def test_growth_is_found_and_dates_the_crossing_as_a_range() -> None:
    series = weekly(12, 3, growth=0.05)
    found = season_forecast(series, 4 * WEEK)
    assert found.growth_per_week == pytest.approx(np.expm1(0.05), abs=0.02)
    early, likely, late = found.crossing(float(np.max(series)) * 1.05)
    assert early is not None and likely is not None
    assert early <= likely
    assert late is None or likely <= late
    assert found.crossing(1e6) == (None, None, None)


def test_missing_hours_are_bridged() -> None:
    series = weekly(10, 5)
    holes = series.copy()
    holes[100:110] = np.nan
    assert season_forecast(holes, WEEK).median == pytest.approx(season_forecast(series, WEEK).median, rel=0.1)


def test_too_little_history_is_no_forecast() -> None:
    with pytest.raises(CapacityError, match=r"3\.0 weeks of load are too few"):
        season_forecast(weekly(3, 0), WEEK)


def test_a_file_of_loads_is_averaged_by_the_hour(tmp_path: Path) -> None:
    path = tmp_path / "load.csv"
    path.write_text("time,rps\n2026-01-01T00:00:00Z,1\n2026-01-01T00:30:00Z,3\n1767232800,5\n")
    start_s, values = hourly_from_csv(path)
    assert start_s == 1767225600
    assert values.tolist() == pytest.approx([2.0, np.nan, 5.0], nan_ok=True)
    path.write_text("time,rps\nnow,1\n")
    with pytest.raises(CapacityError, match=r"load\.csv:2: 'now,1' is not a time and a number"):
        hourly_from_csv(path)


def test_forecast_answers_no_where_the_peak_crosses_the_line(tmp_path: Path) -> None:
    path = tmp_path / "load.csv"
    rows = (f"{1_760_000_400 + hour * 3600},{value:.4f}" for hour, value in enumerate(weekly(10, 1)))
    path.write_text("\n".join(rows) + "\n")
    low, high = (
        CliRunner().invoke(app, ["forecast", str(path), "--line", line, "--json", "--html", str(tmp_path / "f.html")])
        for line in ("20", "500")
    )
    assert (low.exit_code, high.exit_code) == (1, 0), low.output
    crossing = json.loads(low.stdout)["result"]["crosses_at"]
    assert crossing["earliest"] <= crossing["median"]
    assert json.loads(high.stdout)["result"]["crosses_at"]["earliest"] is None
    assert CliRunner().invoke(app, ["forecast"]).exit_code == 2
