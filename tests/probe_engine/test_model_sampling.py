"""Choosing tokens from logits."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probe_engine.errors import ModelError
from probe_engine.model.sampling import NUCLEUS_CANDIDATES, SamplingParams, sample
from probe_engine.profile.threads import torch_threads

GREEDY = SamplingParams(temperature=0.0)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[int]:
    with torch_threads(1) as threads:  # several spin against each other where the machine is busy
        yield threads


def draw(logits: torch.Tensor, params: SamplingParams, count: int, seed: int = 0) -> Counter[int]:
    generator = torch.Generator().manual_seed(seed)
    rows = logits.expand(count, -1)
    return Counter(sample(rows, [params] * count, [generator] * count).tolist())


def assert_shares(drawn: Counter[int], expected: Sequence[float]) -> None:
    count = drawn.total()
    for token, share in enumerate(expected):
        spread = 4 * math.sqrt(share * (1 - share) / count)
        assert abs(drawn[token] / count - share) <= spread, (token, drawn[token] / count, share)


def test_greedy_takes_the_likeliest_and_the_first_of_equals() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 1.0, 2.0]])
    assert sample(logits, [GREEDY] * 2, [None] * 2).tolist() == [1, 0]
    assert sample(logits.bfloat16(), [GREEDY] * 2, [None] * 2).tolist() == [1, 0]


def test_greedy_and_random_rows_share_a_batch() -> None:
    logits = torch.full((3, 5), -100.0)
    logits[0, 1] = logits[1, 2] = logits[2, 3] = 100.0
    generator = torch.Generator().manual_seed(0)
    params = [GREEDY, SamplingParams(), SamplingParams(top_p=0.5, top_k=2)]
    assert sample(logits, params, [None, generator, generator]).tolist() == [1, 2, 3]


def test_temperature_draws_the_tempered_distribution() -> None:
    logits = torch.tensor([1.0, 2.0, 0.0, -1.0])
    drawn = draw(logits, SamplingParams(temperature=2.0), 20_000)
    assert_shares(drawn, torch.softmax(logits / 2.0, dim=0).tolist())


def test_top_k_draws_only_from_the_k_likeliest() -> None:
    logits = torch.log(torch.tensor([0.1, 0.4, 0.2, 0.3]))
    assert_shares(draw(logits, SamplingParams(top_k=2), 20_000), [0.0, 4 / 7, 0.0, 3 / 7])


def test_top_p_draws_from_the_smallest_set_that_reaches_p() -> None:
    logits = torch.log(torch.tensor([0.1, 0.4, 0.2, 0.3]))
    assert_shares(draw(logits, SamplingParams(top_p=0.65), 20_000), [0.0, 4 / 7, 0.0, 3 / 7])
    assert_shares(draw(logits, SamplingParams(top_p=0.75), 20_000), [0.0, 4 / 9, 2 / 9, 3 / 9])


def test_top_p_is_taken_of_what_top_k_leaves() -> None:
    logits = torch.log(torch.tensor([0.1, 0.4, 0.2, 0.3]))  # top 2: 4/7, 3/7
    assert set(draw(logits, SamplingParams(top_k=2, top_p=0.5), 500)) == {1}


def test_a_nucleus_wider_than_the_candidates_is_found_whole() -> None:
    size = 2 * NUCLEUS_CANDIDATES
    drawn = draw(torch.zeros(size), SamplingParams(top_p=0.99), 2500)
    assert len(drawn) > NUCLEUS_CANDIDATES


def test_requests_of_every_kind_draw_as_they_do_alone() -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(5, 3000, generator=generator)
    params = [
        SamplingParams(seed=1),
        SamplingParams(top_k=7, seed=2),
        SamplingParams(top_p=0.9, seed=3),
        SamplingParams(temperature=0.5, top_k=2000, top_p=0.99, seed=4),
        GREEDY,
    ]

    def seeded() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(wanted.seed or 0) for wanted in params]

    together = sample(logits, params, seeded()).tolist()
    alone = [sample(logits[row : row + 1], [params[row]], [seeded()[row]]).item() for row in range(5)]
    assert together == alone


@given(
    st.lists(st.floats(-50, 50), min_size=1, max_size=30),
    st.floats(0.0, 5.0),
    st.floats(0.0, 1.0, exclude_min=True),
    st.none() | st.integers(1, 40),
    st.integers(0, 2**32),
)
def test_a_token_is_always_among_those_allowed(
    logits: list[float], temperature: float, top_p: float, top_k: int | None, seed: int
) -> None:
    row = torch.tensor([logits])
    params = SamplingParams(temperature=temperature, top_p=top_p, top_k=top_k)
    (token,) = sample(row, [params], [torch.Generator().manual_seed(seed)]).tolist()
    better = int((row[0] > row[0, token]).sum())
    assert better < (top_k or len(logits))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", math.nan),
        ("top_k", 0),
    ],
)
def test_values_out_of_range_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ModelError, match=field):
        SamplingParams(**{field: value})  # type: ignore[arg-type]
