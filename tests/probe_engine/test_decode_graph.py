"""Decode steps through fixed memory, padded to sizes: the same tokens as without; and weights that nobody trained."""

import json
from pathlib import Path

import pytest
import torch

from probe_engine.errors import ModelError
from probe_engine.model.loading import LoadedModel, load_model
from probe_engine.model.sampling import SamplingParams
from probe_engine.model.tiny import tiny
from probe_engine.model.weights import dummy_source, expected_shapes
from probe_engine.runtime.decode_graph import Capture, run_eagerly
from probe_engine.runtime.runner import Runner
from probe_engine.sched import Request, Scheduler, SchedulerConfig

CONFIG = SchedulerConfig(
    num_blocks=20, block_size=8, max_num_batched_tokens=32, max_num_seqs=6, max_model_len=64, prefix_cache=False
)
LENGTHS = (3, 9, 8, 17, 1, 30, 12, 5)


def served(loaded: LoadedModel, capture: Capture | None) -> tuple[dict[str, list[int]], int]:
    """Tokens of requests that come and go, some preempted; and how many times a step was carried out by a graph."""
    replays = 0

    def counting(run):
        replay, answer = run_eagerly(run)

        def counted() -> None:
            nonlocal replays
            replays += 1
            replay()

        return counted, answer

    runner = Runner(loaded, CONFIG, capture=capture and counting)
    scheduler = Scheduler(CONFIG)
    for index, length in enumerate(LENGTHS):
        scheduler.add(Request(f"r{index}", length, 20 + index, 0.0))
        runner.add(f"r{index}", [(index * 37 + at) % 256 for at in range(length)], SamplingParams(temperature=0.0))
    tokens: dict[str, list[int]] = {}
    while (output := scheduler.schedule(0.0)) is not None:
        for request_id, token in runner.execute(output).items():
            tokens.setdefault(request_id, []).append(token)
        for request in scheduler.update(output, {}, 0.0):
            runner.remove(request.request_id)
    assert scheduler.preemptions
    return tokens, replays


def test_graphs_give_the_tokens_that_plain_steps_give() -> None:
    loaded = load_model("tiny", device="cpu", kernels="torch")
    plain, none = served(loaded, None)
    through_graphs, replays = served(loaded, run_eagerly)
    assert through_graphs == plain
    assert none == 0
    assert replays > 10


def config_only(directory: Path) -> Path:
    config = tiny()[1]
    fields = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "eos_token_id": 257,
    }
    (directory / "config.json").write_text(json.dumps(fields))
    return directory


def test_a_config_is_enough_for_a_model_of_random_weights(tmp_path: Path) -> None:
    loaded = load_model(str(config_only(tmp_path)), "float32", "cpu", dummy_weights=True)
    tokens, _ = served(loaded, None)
    assert [len(tokens[f"r{index}"]) for index in range(len(LENGTHS))] == [20 + index for index in range(len(LENGTHS))]
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing"):
        load_model(str(tmp_path), "float32", "cpu")


def test_each_random_tensor_is_the_same_whenever_it_is_asked_for() -> None:
    config = tiny()[1]
    first, second = (dummy_source(config, 1, torch.float32, torch.device("cpu")) for _ in range(2))
    names = list(expected_shapes(config))
    forwards = {name: first(name) for name in names}
    assert all(torch.equal(forwards[name], second(name)) for name in reversed(names))
    matrices = [tensor for tensor in forwards.values() if tensor.ndim == 2]
    assert len({float(tensor.sum()) for tensor in matrices}) == len(matrices)
    assert float(matrices[0].std()) == pytest.approx(config.hidden_size**-0.5, rel=0.05)
