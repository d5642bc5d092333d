from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import CapacityError
from planner.money.gpu_mix import GpuMix, GpuType, cheapest_mix, checked_mix

TYPES = (GpuType("small", 1.0), GpuType("large", 3.5))


def brute_force(rate: np.ndarray, able: np.ndarray, price: tuple[float, float], most: int) -> float:
    """Cheapest (small, large) that carries all: the large take the slices where they gain most over the small."""
    best = float("inf")
    for small, large in product(range(most + 1), repeat=2):
        order = np.argsort(-able[:, 1] / able[:, 0])
        room, left = float(large), 0.0
        for index in order:
            need = rate[index] / able[index, 1]
            taken = min(room, need)
            room -= taken
            left += (1 - taken / need) * rate[index] / able[index, 0]
        if left <= small + 1e-9:
            best = min(best, small * price[0] + large * price[1])
    return best


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), slices=st.integers(1, 6))
def test_the_mix_costs_what_the_cheapest_of_all_counts_costs(seed: int, slices: int) -> None:
    draw = np.random.default_rng(seed)
    rate, able = draw.uniform(0.1, 3, slices), draw.uniform(0.5, 5, (slices, 2))
    found = cheapest_mix(TYPES, rate, able)
    assert found.usd_per_hour <= brute_force(rate, able, (1.0, 3.5), 40) * 1.001 + 1e-6
    assert found.shares.sum(axis=1) == pytest.approx(1)
    used = (found.shares * rate[:, None] / able).sum(axis=0)
    assert (used <= np.array(list(found.counts.values())) + 1e-6).all()


def test_a_type_takes_only_slices_that_it_can_serve() -> None:
    found = cheapest_mix(TYPES, np.array([4.0, 1.0]), np.array([[2.0, 4.0], [0.0, 1.0]]))
    assert found.counts == {"small": 2, "large": 1}
    assert found.shares[1].tolist() == [0.0, 1.0]


def test_what_cannot_be_had_is_not_rented() -> None:
    scarce = (GpuType("small", 1.0, available=1), GpuType("large", 3.5))
    assert cheapest_mix(scarce, np.array([4.0]), np.array([[2.0, 4.0]])).counts == {"small": 0, "large": 1}


def test_a_slice_that_fits_nowhere_is_named() -> None:
    with pytest.raises(CapacityError, match="slice 1: no GPU type"):
        cheapest_mix(TYPES, np.array([1.0, 1.0]), np.array([[1.0, 1.0], [0.0, 0.0]]))


def test_a_type_that_fails_its_check_is_loaded_less_until_it_holds() -> None:
    tried: list[GpuMix] = []

    def broken(mix: GpuMix) -> list[str]:
        tried.append(mix)
        return ["small"] if mix.counts["small"] < 3 else []

    found = checked_mix(TYPES[:1], np.array([4.0]), np.array([[2.0]]), broken)
    assert (len(tried), found.counts, found.load_factor) == (2, {"small": 3}, pytest.approx(1.1))


def test_a_repair_leaves_the_types_that_hold_alone() -> None:
    rate, able = np.array([4.0, 4.0]), np.array([[2.0, 0.0], [0.0, 4.0]])
    first = cheapest_mix(TYPES, rate, able)
    found = checked_mix(TYPES, rate, able, lambda mix: ["small"] if mix.counts["small"] < 4 else [])
    assert (found.counts["large"], found.counts["small"]) == (first.counts["large"], 4)


def test_eight_hundred_slices_on_eight_types_are_solved_to_a_thousandth() -> None:
    draw = np.random.default_rng(0)
    price = draw.uniform(0.5, 8, 8)
    types = [GpuType(f"g{at}", float(usd)) for at, usd in enumerate(price)]
    able = price * draw.lognormal(0, 0.5, (800, 8)) * 2
    found = cheapest_mix(types, draw.lognormal(0, 1, 800), able)
    assert found.gap_ratio <= 1e-3
    assert found.shares.sum(axis=1) == pytest.approx(1)


def test_a_mix_that_never_holds_is_no_answer() -> None:
    with pytest.raises(CapacityError, match="no mix keeps the promise"):
        checked_mix(TYPES, np.array([4.0]), np.array([[2.0, 3.0]]), lambda mix: ["small", "large"])
