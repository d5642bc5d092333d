import numpy as np
import pytest

from planner.room.forecast import first_crossing_s, forecast

TIMES = np.arange(120) * 60.0


def test_a_flat_load_stays_flat_in_a_narrow_band() -> None:
    found = forecast(TIMES, np.full(120, 5.0), 1800)
    assert found is not None
    assert found.median == pytest.approx(np.full(30, 5.0))
    assert found.low == pytest.approx(found.high)
    assert found.times_s[0] == TIMES[-1] + 60


def test_a_rising_load_rises_less_and_less() -> None:
    found = forecast(TIMES, 5 + TIMES / 600, 3600)
    assert found is not None
    steps = np.diff(found.median)
    assert np.all(steps > 0)
    assert np.all(np.diff(steps) < 0)


def test_the_band_covers_about_its_share_of_noisy_futures() -> None:
    covered, tried = [], []
    for seed in range(60):
        draw = np.random.default_rng(seed)
        load = np.maximum(20 + np.cumsum(draw.normal(0, 0.3, 150)) + draw.normal(0, 0.5, 150), 0)
        found = forecast(TIMES, load[:120], 1800)
        assert found is not None
        covered.append(np.mean((load[120:] >= found.low) & (load[120:] <= found.high)))
        tried.append(found.backtest_coverage)
    assert 0.85 < float(np.mean(covered)) < 0.95
    assert np.std(tried) > 0.05, "measured on what the band was made of, it would always be its share"
    assert 0.8 < float(np.mean(tried)) < 0.97


def test_a_load_is_never_forecast_below_zero() -> None:
    found = forecast(TIMES, np.linspace(10, 0, 120), 7200)
    assert found is not None
    assert found.median.min() >= 0
    assert found.low.min() >= 0


def test_too_little_history_gives_no_forecast() -> None:
    assert forecast(TIMES[:10], np.ones(10), 600) is None
    assert forecast(TIMES, np.full(120, np.nan), 600) is None


def test_gaps_are_bridged() -> None:
    load = np.full(120, 3.0)
    load[[0, 40, 41, 119]] = np.nan
    found = forecast(TIMES, load, 600)
    assert found is not None
    assert found.median == pytest.approx(np.full(10, 3.0))


def test_a_crossing_is_interpolated() -> None:
    assert first_crossing_s(np.array([0.0, 60, 120]), np.array([1.0, 2, 4]), 3.0) == 90
    assert first_crossing_s(np.array([0.0, 60]), np.array([1.0, 2]), 3.0) is None
    assert first_crossing_s(np.array([10.0, 60]), np.array([5.0, 6]), 3.0) == 10
