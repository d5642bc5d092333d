"""What a model directory must hold, and what is said when it doesn't."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import tokenizers
import torch

from probe_engine.errors import ModelError
from probe_engine.model.config import ModelConfig, Rope, parse_config, read_config
from probe_engine.model.loading import load_model, model_name, pick_device
from probe_engine.model.tiny import tiny
from probe_engine.model.weights import expected_shapes, random_source, read_weights
from probe_engine.profile.threads import torch_threads

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "eos_token_id": 3,
    "dtype": "bfloat16",
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[int]:
    with torch_threads(1) as threads:  # several spin against each other where the machine is busy
        yield threads


def config(**changes: Any) -> ModelConfig:
    return parse_config(CONFIG | changes, Path("somewhere/config.json"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    generator = torch.Generator().manual_seed(1)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in expected_shapes(config()).items()}
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    words = tokenizers.models.WordLevel({f"t{index}": index for index in range(40)}, unk_token="t0")
    tokenizers.Tokenizer(words).save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def change_tensors(directory: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    path = directory / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path)


def refusal(directory: Path, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(str(directory), **({"device": "cpu"} | options))
    return str(caught.value)


def test_a_whole_directory_loads_and_tells_its_phases(directory: Path) -> None:
    loaded = load_model(str(directory), "auto", "cpu")
    assert (loaded.dtype, loaded.device, loaded.name) == ("bfloat16", "cpu", directory.name)
    assert list(loaded.phases_s) == ["config", "tokenizer", "weights", "kernels"]
    assert all(seconds >= 0 for seconds in loaded.phases_s.values())
    assert loaded.tokenizer.eos_ids == {3}
    assert loaded.config.parameters == sum(
        torch.Size(shape).numel() for shape in expected_shapes(loaded.config).values()
    )


def test_a_model_is_called_by_the_link_that_it_was_given_by(directory: Path, tmp_path: Path) -> None:
    link = tmp_path / "by-another-name"
    link.symlink_to(directory)
    assert load_model(str(link), "auto", "cpu").name == "by-another-name"
    assert model_name(".") == Path.cwd().name


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "gone") in refusal(tmp_path / "gone")
    assert "'tiny'" in refusal(tmp_path / "gone")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named_with_its_directory(directory: Path, name: str) -> None:
    (directory / name).unlink()
    assert str(directory) in refusal(directory)
    assert name in refusal(directory)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "generation_config.json"])
def test_a_broken_file_is_named(directory: Path, name: str) -> None:
    (directory / name).write_text("{ broken")
    assert str(directory / name) in refusal(directory)


def test_weights_in_another_format_are_mentioned(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    assert "pytorch_model.bin" in refusal(directory)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("architectures", ["MixtralForCausalLM"], "'LlamaForCausalLM'"),
        ("hidden_act", "gelu", "'silu'"),
        ("attention_bias", True, "False"),
        ("mlp_bias", True, "False"),
        ("quantization_config", {"bits": 4}, "None"),
        ("sliding_window", 4096, "None"),
        ("use_sliding_window", True, "False"),
        ("layer_types", ["sliding_attention", "full_attention"], "'full_attention' only"),
        ("rope_scaling", {"type": "linear", "factor": 2.0}, "'llama3'"),
        ("rope_parameters", {"rope_type": "yarn", "factor": 2.0}, "'default', 'llama3'"),
        ("hidden_size", 0, "from 1 up"),
        ("hidden_size", "wide", "from 1 up"),
        ("hidden_size", 18, "num_attention_heads, 4"),
        ("num_key_value_heads", 3, "num_key_value_heads, 3"),
        ("head_dim", 5, "even"),
        ("vocab_size", None, "from 1 up"),
        ("rms_norm_eps", "small", "over 0"),
        ("eos_token_id", "three", "token id"),
    ],
)
def test_what_the_decoder_does_not_compute_is_refused_by_field_value_and_allowance(
    field: str, value: Any, allowed: str
) -> None:
    changed = CONFIG | {field: value}
    if field == "rope_scaling":
        del changed["rope_parameters"]
    with pytest.raises(ModelError) as caught:
        parse_config(changed, Path("somewhere/config.json"))
    message = str(caught.value)
    assert message.startswith("somewhere/config.json: ")
    assert field.split("_", maxsplit=1)[0] in message
    assert allowed in message


def test_another_model_type_without_architectures_is_refused() -> None:
    with pytest.raises(ModelError, match=r"model_type is 'gpt2'; allowed: 'llama'"):
        config(architectures=None, model_type="gpt2")


def test_defaults_of_old_files_are_known() -> None:
    raw = {
        key: value for key, value in CONFIG.items() if key not in {"rope_parameters", "dtype", "num_key_value_heads"}
    }
    old = parse_config(raw | {"torch_dtype": "float16", "rope_theta": 5e5}, Path("config.json"))
    assert (old.rope, old.dtype, old.kv_heads, old.head_dim) == (Rope(theta=5e5), "float16", 4, 4)


def test_missing_tensors_are_named(directory: Path) -> None:
    change_tensors(
        directory, lambda tensors: [tensors.pop(name) for name in ("model.norm.weight", "lm_head.weight")] and None
    )
    assert "lacks 2 tensors: lm_head.weight, model.norm.weight" in refusal(directory)


def test_extra_tensors_are_named(directory: Path) -> None:
    change_tensors(directory, lambda tensors: tensors.update({"model.layers.2.mlp.up_proj.weight": torch.zeros(2)}))
    assert "model.layers.2.mlp.up_proj.weight" in refusal(directory)


def test_rotary_tables_that_old_files_store_are_passed_over(directory: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    change_tensors(directory, lambda tensors: tensors.update({name: torch.zeros(2)}))
    assert load_model(str(directory), device="cpu").config.layers == 2


def test_a_tensor_of_another_shape_is_named_with_both_shapes(directory: Path) -> None:
    change_tensors(directory, lambda tensors: tensors.update({"model.norm.weight": torch.zeros(17)}))
    message = refusal(directory)
    assert "model.norm.weight" in message
    assert "(17,)" in message
    assert "(16,)" in message


def test_a_head_that_differs_from_the_embedding_it_is_tied_to_is_refused(directory: Path) -> None:
    (directory / "config.json").write_text(json.dumps(CONFIG | {"tie_word_embeddings": True}))
    assert "lm_head.weight differs" in refusal(directory)
    change_tensors(
        directory, lambda tensors: tensors.update({"lm_head.weight": tensors["model.embed_tokens.weight"].clone()})
    )
    weights = read_weights(directory, read_config(directory), torch.float32, torch.device("cpu"))
    assert weights.head is weights.embedding


def test_missing_shards_are_named(directory: Path) -> None:
    index = {"weight_map": dict.fromkeys(expected_shapes(config()), "model-1-of-1.safetensors")}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-1-of-1.safetensors" in refusal(directory)


def test_shards_outside_the_directory_are_refused(directory: Path) -> None:
    shutil.copy(directory / "model.safetensors", directory.parent / "elsewhere.safetensors")
    index = {"weight_map": dict.fromkeys(expected_shapes(config()), "../elsewhere.safetensors")}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "../elsewhere.safetensors" in refusal(directory)


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(directory: Path) -> None:
    words = tokenizers.models.WordLevel({f"t{index}": index for index in range(41)}, unk_token="t0")
    tokenizers.Tokenizer(words).save(str(directory / "tokenizer.json"))
    assert "41 tokens" in refusal(directory)


def test_unknown_dtypes_and_devices_are_named_with_what_is_allowed(directory: Path) -> None:
    assert "dtype is 'int3'; allowed: auto, float32, bfloat16, float16" in refusal(directory, dtype="int3")
    with pytest.raises(ModelError, match="device is 'abacus'; allowed: auto, cpu, cuda"):
        pick_device("abacus")


def test_tiny_has_the_same_weights_for_the_same_seed() -> None:
    config = tiny()[1]
    name = "model.layers.1.mlp.gate_proj.weight"
    one, same, other = (random_source(config, seed, torch.float32, torch.device("cpu"))(name) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_tiny_needs_no_files_and_is_small() -> None:
    loaded = load_model("tiny", "bfloat16", "cpu")
    assert (loaded.name, loaded.dtype, loaded.config.max_tokens) == ("tiny", "bfloat16", 8192)
    assert loaded.config.parameters < 200_000
    assert loaded.config.vocab_size == loaded.tokenizer.vocab_size == 258


def test_each_architecture_says_what_it_has_beyond_llama() -> None:
    def shaped(name: str, **changes: Any) -> ModelConfig:
        return config(architectures=[name], **changes)

    llama, qwen2 = config(), shaped("Qwen2ForCausalLM", sliding_window=32)
    assert (llama.qkv_bias, llama.qk_norm, llama.window) == (False, False, None)
    assert (qwen2.qkv_bias, qwen2.qk_norm, qwen2.window) == (True, False, None)
    qwen3 = shaped("Qwen3ForCausalLM")
    assert (qwen3.qkv_bias, qwen3.qk_norm, qwen3.head_dim) == (False, True, 128)
    assert shaped("MistralForCausalLM", sliding_window=32).window == 32
    assert shaped("MistralForCausalLM", sliding_window=64).window is None  # no position is beyond it
    assert parse_config(CONFIG | {"architectures": None, "model_type": "qwen3"}, Path("config.json")).qk_norm
    for one in (llama, qwen2, qwen3):
        assert one.parameters == sum(torch.Size(shape).numel() for shape in expected_shapes(one).values())
