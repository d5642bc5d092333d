"""Threads that share a step: they compute what one computes, alone in their operations, and tell of failures."""

import pytest
import torch

from probe_engine.model.loading import LoadedModel, load_model
from probe_engine.model.sampling import SamplingParams
from probe_engine.profile.threads import torch_threads
from probe_engine.runtime.crew import Crew
from probe_engine.runtime.runner import Runner
from probe_engine.sched import Request, Scheduler, SchedulerConfig

CONFIG = SchedulerConfig(
    num_blocks=256, block_size=8, max_num_batched_tokens=256, max_num_seqs=64, max_model_len=128, prefix_cache=False
)


def served(loaded: LoadedModel, threads: int) -> dict[str, list[int]]:
    """Tokens of prompts of many lengths, some as single rows and some as chunks of a step."""
    with torch_threads(threads):
        runner, scheduler = Runner(loaded, CONFIG), Scheduler(CONFIG)
        for index in range(48):
            length = 1 + index * 7 % 50
            scheduler.add(Request(f"r{index}", length, 6, 0.0))
            runner.add(f"r{index}", [(index * 31 + at) % 256 for at in range(length)], SamplingParams(temperature=0.0))
        tokens: dict[str, list[int]] = {}
        while (output := scheduler.schedule(0.0)) is not None:
            for request_id, token in runner.execute(output).items():
                tokens.setdefault(request_id, []).append(token)
            for request in scheduler.update(output, {}, 0.0):
                runner.remove(request.request_id)
    return tokens


def test_several_threads_sample_what_one_samples() -> None:
    loaded = load_model("tiny", device="cpu")
    alone = served(loaded, 1)
    assert len(alone) == 48
    assert served(loaded, 3) == alone


def test_each_thread_is_alone_in_its_operations_and_the_caller_keeps_its_own_number() -> None:
    with torch_threads(2):
        crew = Crew(3)
        assert crew.each(lambda part: (part, torch.get_num_threads()), [1, 2, 3]) == [(1, 1), (2, 1), (3, 1)]
        assert torch.get_num_threads() == 2


def test_a_part_that_fails_fails_the_step_when_all_have_ended() -> None:
    ended: list[int] = []

    def work(part: int) -> None:
        if part == 1:
            raise ValueError("part 1")
        ended.append(part)

    with pytest.raises(ValueError, match="part 1"):
        Crew(2).each(work, [1, 2, 3])
    assert sorted(ended) == [2, 3]
