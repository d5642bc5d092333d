"""Penalties, biases, bans and log probabilities, against transformers and by their definitions."""

from collections.abc import Iterator

import pytest
import torch
from transformers import MinPLogitsWarper, RepetitionPenaltyLogitsProcessor

from probe_engine.errors import ModelError
from probe_engine.model.adjust import History, adjust
from probe_engine.model.loading import load_model
from probe_engine.model.logprobs import token_logprobs
from probe_engine.model.sampling import SamplingParams, sample
from probe_engine.profile.threads import torch_threads
from probe_engine.runtime.runner import Runner
from probe_engine.sched import Request, Scheduler, SchedulerConfig

CPU = torch.device("cpu")
CONFIG = SchedulerConfig(num_blocks=32, block_size=8, max_num_seqs=4, max_model_len=64)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[int]:
    with torch_threads(1) as threads:
        yield threads


def history(prompt: list[int], output: list[int], vocabulary: int = 6) -> History:
    made = History(prompt, vocabulary, CPU)
    for token in output:
        made.take(torch.tensor([token]))
    return made


def test_repetition_penalty_is_that_of_transformers() -> None:
    logits = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    seen = [([0, 1], [1, 4]), ([5], []), ([2, 2], [3])]
    expected = [
        RepetitionPenaltyLogitsProcessor(1.7)(torch.tensor([prompt + output]), logits[row : row + 1])
        for row, (prompt, output) in enumerate(seen)
    ]
    params = [SamplingParams(repetition_penalty=1.7)] * 3
    found = adjust(logits, params, [history(*one) for one in seen], ())
    torch.testing.assert_close(found, torch.cat(expected))


def test_presence_counts_once_and_frequency_each_time_in_the_output_alone() -> None:
    params = [SamplingParams(presence_penalty=0.5, frequency_penalty=0.25), SamplingParams(frequency_penalty=-1.0)]
    found = adjust(torch.zeros(2, 6), params, [history([0], [2, 2, 3]), history([1], [1])], ())
    assert found.tolist() == [[0, 0, -1.0, -0.75, 0, 0], [0, 1.0, 0, 0, 0, 0]]


def test_biases_are_added_and_an_end_is_banned_before_min_tokens() -> None:
    params = [SamplingParams(logit_bias=((1, 3.0), (4, -100.0))), SamplingParams(min_tokens=2)]
    logits = torch.zeros(2, 6)
    early = adjust(logits, params, [history([0], []), history([0], [1])], (5,))
    assert early.tolist() == [[0, 3.0, 0, 0, -100.0, 0], [0, 0, 0, 0, 0, float("-inf")]]
    assert adjust(logits, params[1:], [history([0], [1, 1])], (5,))[0, 5] == 0
    assert not logits.any()


def test_min_p_leaves_what_transformers_leaves() -> None:
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(2))
    left = torch.isfinite(MinPLogitsWarper(0.2)(torch.tensor([[0]]), logits))[0].nonzero().flatten().tolist()
    generator = torch.Generator().manual_seed(0)
    drawn = sample(logits.expand(3000, -1), [SamplingParams(min_p=0.2)] * 3000, [generator] * 3000)
    assert set(drawn.tolist()) == set(left)
    assert 1 < len(left) < 50


def test_log_probabilities_are_those_of_the_softmax() -> None:
    logits = torch.randn(3, 9, generator=torch.Generator().manual_seed(3))
    expected = torch.log_softmax(logits.double(), -1)
    told = token_logprobs(logits, [4, 0, 8], [2, 0, 9])
    assert [len(one.top) for one in told] == [2, 0, 9]
    for row, one in enumerate(told):
        assert one.logprob == pytest.approx(float(expected[row, one.token_id]), abs=1e-5)
        assert [token for token, _ in one.top] == logits[row].argsort(descending=True)[: len(one.top)].tolist()
        for token, logprob in one.top:
            assert logprob == pytest.approx(float(expected[row, token]), abs=1e-5)


def test_requests_with_and_without_wishes_share_a_step() -> None:
    runner, scheduler = Runner(load_model("tiny", device="cpu"), CONFIG), Scheduler(CONFIG)
    wishes = {
        "plain": SamplingParams(temperature=0.0),
        "told": SamplingParams(temperature=0.0, logprobs=3),
        "forced": SamplingParams(temperature=0.0, logit_bias=((7, 100.0),)),
        "varied": SamplingParams(temperature=0.0, logit_bias=((7, 100.0), (8, 99.0)), presence_penalty=2.0),
    }
    tokens: dict[str, list[int]] = {name: [] for name in wishes}
    told = []
    for name, params in wishes.items():
        scheduler.add(Request(name, 10, 4, 0.0))
        runner.add(name, list(range(10)), params)
    while (output := scheduler.schedule(0.0)) is not None:
        for name, token in runner.execute(output).items():
            tokens[name].append(token)
        assert set(runner.logprobs) == {"told"}
        told.append(runner.logprobs["told"])
        for request in scheduler.update(output, {}, 0.0):
            runner.remove(request.request_id)
    assert tokens["forced"] == [7] * 4
    assert set(tokens["varied"]) == {7, 8}
    assert tokens["plain"] == tokens["told"] == [one.token_id for one in told] == [one.top[0][0] for one in told]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("presence_penalty", 2.1),
        ("frequency_penalty", -3.0),
        ("repetition_penalty", 0.0),
        ("min_p", 1.5),
        ("logit_bias", ((3, 101.0),)),
        ("min_tokens", -1),
        ("logprobs", 21),
    ],
)
def test_wishes_out_of_range_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ModelError, match=field):
        SamplingParams(**{field: value})  # type: ignore[arg-type]


def test_a_bias_for_a_token_that_is_not_there_is_refused() -> None:
    runner = Runner(load_model("tiny", device="cpu"), CONFIG)
    with pytest.raises(ModelError, match="logit_bias has token 258; the vocabulary has 258"):
        runner.add("one", [1], SamplingParams(logit_bias=((258, 1.0),)))
    assert runner.requests == 0
