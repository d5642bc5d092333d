import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.outliers import THRESHOLD, scores

VALUES = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=3), st.floats(0.1, 10), min_size=3, max_size=12)


def test_one_sick_replica_of_eight_stands_apart_and_the_others_do_not():
    found = scores({**{f"r{n}": 1 + n / 100 for n in range(7)}, "sick": 2.0})
    assert [name for name, z in found.items() if z > THRESHOLD] == ["sick"]


def test_three_sick_replicas_of_eight_cannot_hide_each_other():
    found = scores({**{f"r{n}": 1 + n / 100 for n in range(5)}, "a": 2.0, "b": 2.1, "c": 1.9})
    assert {name for name, z in found.items() if z > THRESHOLD} == {"a", "b", "c"}


def test_z_is_that_of_iglewicz_and_hoaglin():
    found = scores({"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "e": 20.0})
    assert found["e"] == pytest.approx(0.6745 * 17 / 1)


def test_two_replicas_have_no_outlier():
    assert scores({"a": 1.0, "b": 9.0}) == {}


def test_a_difference_smaller_than_what_matters_is_none():
    assert all(abs(z) < THRESHOLD for z in scores({"a": 0.0, "b": 0.0, "c": 1.0}, least=2.0).values())


@given(VALUES)
def test_scores_do_not_depend_on_the_unit(values):
    plain, scaled = scores(values), scores({name: value * 1000 for name, value in values.items()})
    assert all(scaled[name] == pytest.approx(z, abs=1e-6) for name, z in plain.items())
