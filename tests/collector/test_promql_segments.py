"""Reductions over runs of rows: what each run gives alone, however the runs overlap and wherever they end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.promql.segments import reduce_runs


@given(
    rows=st.integers(1, 80) | st.integers(1_000, 4_000),
    columns=st.sampled_from([1, 3, 70]),
    runs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("operation", [np.add, np.fmin], ids=["add", "fmin"])
def test_a_run_gives_what_its_rows_give_alone(
    operation: np.ufunc, rows: int, columns: int, runs: list[tuple[float, float]], seed: int
) -> None:
    values = np.random.default_rng(seed).integers(-5, 9, (rows, columns)).astype(float)
    first = np.sort([round(begin * rows) for begin, _ in runs])
    last = np.maximum(first, np.sort([round(end * rows) for _, end in runs]))
    found = reduce_runs(operation, values, first, last)
    for run, (begin, end) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        if begin < end:
            assert np.array_equal(found[run], operation.reduce(values[begin:end], axis=0))


def test_windows_much_longer_than_their_step_share_their_sums() -> None:
    values = np.arange(20_000.0).reshape(-1, 2)
    first = np.arange(0, 9_000, 60)
    last = first + 1_000
    running = np.concatenate([np.zeros((1, 2)), np.cumsum(values, axis=0)])
    assert np.array_equal(reduce_runs(np.add, values, first, last), running[last] - running[first])
