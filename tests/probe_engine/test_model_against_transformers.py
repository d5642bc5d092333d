"""The decoder and runner against Hugging Face transformers on the same random weights."""

import json
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers

from probe_engine.model.kernels import COMPILERS
from probe_engine.model.loading import LoadedModel, load_model
from probe_engine.model.sampling import SamplingParams
from probe_engine.profile.threads import torch_threads
from probe_engine.runtime.runner import Runner
from probe_engine.sched import FinishReason, Request, Scheduler, SchedulerConfig, hash_blocks

GREEDY = SamplingParams(temperature=0.0)
VARIANTS: dict[str, dict[str, Any]] = {
    "grouped_heads": {"num_key_value_heads": 2},
    "wide_heads": {"num_key_value_heads": 2, "head_dim": 96},
    "single_key_head_tied": {"num_key_value_heads": 1, "tie_word_embeddings": True},
    "qwen2": {"architecture": "Qwen2", "num_key_value_heads": 2},
    "qwen2_tied": {"architecture": "Qwen2", "num_key_value_heads": 1, "tie_word_embeddings": True},
    "qwen3": {"architecture": "Qwen3", "num_key_value_heads": 2},
    "mistral": {"architecture": "Mistral", "num_key_value_heads": 2, "sliding_window": None},
    "mistral_with_a_window": {"architecture": "Mistral", "num_key_value_heads": 2, "sliding_window": 21},
    "odd_sizes_with_a_window": {
        "architecture": "Mistral",
        "num_key_value_heads": 2,
        "head_dim": 24,
        "intermediate_size": 88,
        "sliding_window": 40,
    },
    "odd_sizes": {"num_key_value_heads": 4, "head_dim": 24, "intermediate_size": 88},  # torch only
    "llama3_rope": {
        "num_key_value_heads": 2,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500_000.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
}
SHORT = SchedulerConfig(num_blocks=64, block_size=8, max_num_batched_tokens=32, max_num_seqs=8, max_model_len=256)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[int]:
    with torch_threads(1) as threads:  # several spin against each other where the machine is busy
        yield threads


def write_checkpoint(directory: Path, shard_size: str = "5GB", architecture: str = "Llama", **changes: Any) -> Any:
    torch.manual_seed(11)
    shape: dict[str, Any] = {
        "vocab_size": 300,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "head_dim": 32,
        "max_position_embeddings": 256,
        "initializer_range": 0.15,
        "bos_token_id": 256,
        "eos_token_id": 257,
    }
    config = getattr(transformers, f"{architecture}Config")(**(shape | changes))
    model = getattr(transformers, f"{architecture}ForCausalLM")(config).eval()
    for name, parameter in model.named_parameters():  # born as zeros and ones, which hide what is left out
        if parameter.dim() == 1:
            torch.nn.init.uniform_(parameter, *((-0.5, 0.5) if name.endswith("bias") else (0.5, 1.5)))
    model.save_pretrained(directory, max_shard_size=shard_size)
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({f"t{index}": index for index in range(300)}, unk_token="t0")
    )
    words.save(str(directory / "tokenizer.json"))
    return model


def prompts(seed: int, lengths: Iterable[int]) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(300) for _ in range(length)] for length in lengths]


def reference_tokens(model: Any, prompt: list[int], count: int) -> list[int]:
    with torch.no_grad():
        ids = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
    return ids[0, len(prompt) :].tolist()


class Served:
    """What serving some prompts came to."""

    def __init__(self) -> None:
        self.tokens: dict[str, list[int]] = {}
        self.requests: dict[str, Request] = {}
        self.steps = 0
        self.longest_prefill_chunks = 0


def serve(
    loaded: LoadedModel,
    wanted: list[list[int]],
    count: int,
    config: SchedulerConfig = SHORT,
    sampling: Callable[[int], SamplingParams] = lambda _: GREEDY,
    runner: Runner | None = None,
    scheduler: Scheduler | None = None,
    name: str = "r",
) -> Served:
    scheduler = scheduler or Scheduler(config)
    runner = runner or Runner(loaded, config)
    served = Served()
    for index, prompt in enumerate(wanted):
        request = Request(f"{name}{index}", len(prompt), count, 0.0, hash_blocks(0, prompt, config.block_size))
        scheduler.add(request)
        runner.add(request.request_id, prompt, sampling(index))
        served.requests[request.request_id] = request
        served.tokens[request.request_id] = []
    now = 0.0
    while (output := scheduler.schedule(now)) is not None:
        now += 1.0
        served.steps += 1
        for request_id, token in runner.execute(output).items():
            served.tokens[request_id].append(token)
        for request in scheduler.update(output, {}, now):
            runner.remove(request.request_id)
            assert request.finish_reason is FinishReason.LENGTH
    assert scheduler.num_waiting == scheduler.num_running == 0
    return served


@pytest.fixture(scope="module", params=["torch", "native"])
def kernels(request: pytest.FixtureRequest) -> str:
    if request.param == "native" and not any(shutil.which(name) for name in COMPILERS):
        pytest.skip(f"no C++ compiler ({', '.join(COMPILERS)})")
    return str(request.param)


@pytest.fixture(scope="module")
def checkpoint(
    tmp_path_factory: pytest.TempPathFactory, kernels: str
) -> tuple[transformers.LlamaForCausalLM, LoadedModel]:
    directory = tmp_path_factory.mktemp("grouped")
    reference = write_checkpoint(directory, num_key_value_heads=2)
    return reference, load_model(str(directory), device="cpu", kernels=kernels)


@pytest.mark.parametrize("block_size", [8, 32])
@pytest.mark.parametrize("variant", VARIANTS)
def test_greedy_tokens_are_those_of_transformers(variant: str, block_size: int, kernels: str, tmp_path: Path) -> None:
    reference = write_checkpoint(tmp_path, **VARIANTS[variant])
    loaded = load_model(str(tmp_path), device="cpu", kernels="auto" if variant.startswith("odd_sizes") else kernels)
    wanted = prompts(1, [1, 2, 7, 8, 9, 31, 33, 100])  # around block borders; the longest take several chunks
    config = SchedulerConfig(
        num_blocks=64, block_size=block_size, max_num_batched_tokens=32, max_num_seqs=8, max_model_len=256
    )
    served = serve(loaded, wanted, 24, config)
    expected = {f"r{index}": reference_tokens(reference, prompt, 24) for index, prompt in enumerate(wanted)}
    assert served.tokens == expected
    assert len({tuple(tokens) for tokens in expected.values()}) == len(wanted)


def test_logits_are_within_1e_4_of_transformers(checkpoint: tuple[Any, LoadedModel]) -> None:
    reference, loaded = checkpoint
    prompt = prompts(2, [90])[0]
    config = SchedulerConfig(num_blocks=64, block_size=8, max_num_batched_tokens=40, max_num_seqs=8, max_model_len=256)
    runner, scheduler = Runner(loaded, config), Scheduler(config)
    scheduler.add(Request("one", len(prompt), 4, 0.0))
    runner.add("one", prompt, GREEDY)
    seen = []
    while (output := scheduler.schedule(0.0)) is not None:
        seen.append(runner.logits(output))
        runner.record(output, seen[-1])
        scheduler.update(output, {}, 0.0)
    ids = prompt + [int(logits.argmax()) for logits in seen if len(logits)]
    with torch.no_grad():
        expected = reference(torch.tensor([ids[:-1]])).logits[0, len(prompt) - 1 :]
    torch.testing.assert_close(torch.cat(seen), expected, atol=1e-4, rtol=1e-4)


def test_sharded_weights_are_read(tmp_path: Path) -> None:
    reference = write_checkpoint(tmp_path, shard_size="100KB", num_key_value_heads=2)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    wanted = prompts(3, [20])
    assert serve(load_model(str(tmp_path), device="cpu"), wanted, 12).tokens["r0"] == reference_tokens(
        reference, wanted[0], 12
    )


def test_the_old_layout_of_config_json_means_the_same(tmp_path: Path) -> None:
    reference = write_checkpoint(tmp_path, **VARIANTS["llama3_rope"])
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text())
    rope = raw.pop("rope_parameters")
    raw |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope, "torch_dtype": raw.pop("dtype", "float32")}
    path.write_text(json.dumps(raw))
    wanted = prompts(4, [120])
    served = serve(load_model(str(tmp_path), device="cpu"), wanted, 16)
    assert served.tokens["r0"] == reference_tokens(reference, wanted[0], 16)


def test_batched_tokens_are_those_of_one_by_one(checkpoint: tuple[Any, LoadedModel]) -> None:
    _, loaded = checkpoint
    wanted = prompts(5, [3, 50, 17, 64, 5, 90, 33])
    together = serve(loaded, wanted, 20)
    for index, prompt in enumerate(wanted):
        assert serve(loaded, [prompt], 20).tokens["r0"] == together.tokens[f"r{index}"]


def test_a_cached_prefix_gives_the_tokens_of_a_cold_one(checkpoint: tuple[Any, LoadedModel]) -> None:
    _, loaded = checkpoint
    common, *tails = prompts(6, [48, 5, 9, 1])
    wanted = [common + tail for tail in tails] + [common]
    cold = [serve(loaded, [prompt], 12).tokens["r0"] for prompt in wanted]
    warm = after_a_prefix(loaded, common, wanted)
    assert [warm.requests[f"r{index}"].cached_tokens for index in range(4)] == [48, 48, 48, 40]
    assert [warm.tokens[f"r{index}"] for index in range(4)] == cold


def after_a_prefix(loaded: LoadedModel, prefix: list[int], wanted: list[list[int]]) -> Served:
    runner, scheduler = Runner(loaded, SHORT), Scheduler(SHORT)
    serve(loaded, [prefix], 2, runner=runner, scheduler=scheduler, name="first")
    return serve(loaded, wanted, 12, runner=runner, scheduler=scheduler)


@pytest.mark.parametrize("variant", ["qwen2", "qwen3", "mistral_with_a_window"])
def test_every_architecture_goes_on_from_a_cached_prefix(variant: str, kernels: str, tmp_path: Path) -> None:
    reference = write_checkpoint(tmp_path, **VARIANTS[variant])
    loaded = load_model(str(tmp_path), device="cpu", kernels=kernels)
    common, tail, other = prompts(10, [48, 30, 1])
    wanted = [common + tail, common + other]
    warm = after_a_prefix(loaded, common, wanted)
    assert [warm.requests[f"r{index}"].cached_tokens for index in range(2)] == [48, 48]
    assert [warm.tokens[f"r{index}"] for index in range(2)] == [reference_tokens(reference, one, 12) for one in wanted]


@pytest.mark.parametrize("variant", ["qwen2", "qwen3", "mistral_with_a_window"])
def test_logits_of_every_architecture_are_within_1e_4(variant: str, kernels: str, tmp_path: Path) -> None:
    reference = write_checkpoint(tmp_path, **VARIANTS[variant])
    prompt = prompts(11, [90])[0]
    with torch.no_grad():
        expected = reference(torch.tensor([prompt])).logits[0, -1:]
    found = first_logits(load_model(str(tmp_path), device="cpu", kernels=kernels), prompt)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_preempted_and_recomputed_requests_give_the_tokens_of_undisturbed_ones(
    checkpoint: tuple[Any, LoadedModel],
) -> None:
    _, loaded = checkpoint
    wanted = prompts(7, [30, 28, 26, 31])
    tight = SchedulerConfig(
        num_blocks=19, block_size=8, max_num_batched_tokens=64, max_num_seqs=8, max_model_len=256, prefix_cache=False
    )
    served = serve(loaded, wanted, 40, tight)
    assert sum(request.preemptions for request in served.requests.values()) > 0
    assert served.tokens == serve(loaded, wanted, 40).tokens


def test_seeded_sampling_does_not_depend_on_the_batch_or_on_preemption(checkpoint: tuple[Any, LoadedModel]) -> None:
    _, loaded = checkpoint
    wanted = prompts(8, [30, 28, 26, 31])

    def sampling(index: int) -> SamplingParams:
        return SamplingParams(temperature=1.3, top_p=0.9, seed=index) if index % 2 else GREEDY

    tight = SchedulerConfig(
        num_blocks=19, block_size=8, max_num_batched_tokens=64, max_num_seqs=8, max_model_len=256, prefix_cache=False
    )
    undisturbed = serve(loaded, wanted, 40, sampling=sampling)
    assert serve(loaded, wanted, 40, tight, sampling=sampling).tokens == undisturbed.tokens
    alone = serve(loaded, [wanted[1]], 40, sampling=lambda _: sampling(1))
    assert alone.tokens["r0"] == undisturbed.tokens["r1"]


def test_bfloat16_logits_are_near_those_of_float32(tmp_path: Path, kernels: str) -> None:
    write_checkpoint(tmp_path, num_key_value_heads=2)
    wanted = prompts(9, [40])
    exact, rounded = (
        first_logits(load_model(str(tmp_path), dtype, device="cpu", kernels=kernels), wanted[0])
        for dtype in ("float32", "bfloat16")
    )
    assert torch.nn.functional.cosine_similarity(exact, rounded.float(), dim=-1).min() > 0.999


def first_logits(loaded: LoadedModel, prompt: list[int]) -> torch.Tensor:
    config = SchedulerConfig(num_blocks=8, block_size=16, max_num_seqs=1, max_model_len=256)
    runner, scheduler = Runner(loaded, config), Scheduler(config)
    scheduler.add(Request("one", len(prompt), 1, 0.0))
    runner.add("one", prompt, GREEDY)
    output = scheduler.schedule(0.0)
    assert output is not None
    return runner.logits(output)
