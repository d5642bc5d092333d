"""Weights in few bits: what they lose, what they save, and that both ways of restoring them agree."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probe_engine.errors import ModelError
from probe_engine.model.kernels import KernelsUnavailable, load_kernels
from probe_engine.model.loading import load_model
from probe_engine.model.quantisation import GROUP, Quantiser, quantise, unpack
from probe_engine.profile.bench import run_bench
from probe_engine.profile.perplexity import perplexity
from probe_engine.profile.threads import torch_threads


def restored(weight: torch.Tensor, bits: int) -> torch.Tensor:
    out = torch.empty_like(weight)
    unpack(quantise(weight, bits), out)
    return out


@given(st.integers(1, 5), st.integers(1, 4), st.sampled_from([4, 8]), st.integers(0, 1000))
def test_no_weight_moves_by_more_than_half_a_step(rows: int, groups: int, bits: int, seed: int) -> None:
    weight = torch.randn(rows, groups * GROUP, generator=torch.Generator().manual_seed(seed))
    together = weight.view(rows, -1, GROUP) if bits == 4 else weight.view(rows, 1, -1)
    step = together.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    moved = (restored(weight, bits) - weight).abs().view_as(together)
    assert bool((moved <= step / 2 * 1.001).all())


@pytest.mark.parametrize("bits", [4, 8])
def test_whole_numbers_of_a_step_and_zeros_come_back_exactly(bits: int) -> None:
    highest = 2 ** (bits - 1) - 1
    weight = torch.zeros(3, 2 * GROUP)
    weight[0] = (torch.arange(2 * GROUP) % (2 * highest + 1) - highest).float()
    weight[1, 0] = weight[1, GROUP] = -highest
    assert torch.equal(restored(weight, bits), weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [4, 8])
def test_the_kernel_restores_what_torch_restores(bits: int, dtype: torch.dtype) -> None:
    try:
        kernels = load_kernels(dtype)
    except KernelsUnavailable as error:
        pytest.skip(str(error))
    packed = quantise(torch.randn(37, 3 * GROUP, generator=torch.Generator().manual_seed(2)), bits)
    ours, reference = torch.empty(37, 3 * GROUP, dtype=dtype), torch.empty(37, 3 * GROUP, dtype=dtype)
    kernels.unpack(packed.packed, packed.scales, ours, bits)
    unpack(packed, reference)
    assert torch.equal(ours, reference)


def test_linears_of_many_sizes_share_one_scratch_tensor() -> None:
    generator = torch.Generator().manual_seed(4)
    prepare = Quantiser(8, torch.empty(0))
    weights = [torch.randn(size, generator=generator) for size in ((8, 32), (96, 64), (5, 32))]
    linears = [prepare(weight, None) for weight in weights]
    for weight, linear in zip(weights, linears, strict=True):
        rows = torch.randn(3, weight.shape[1], generator=generator)
        torch.testing.assert_close(linear(rows), rows @ restored(weight, 8).T)


def test_rows_that_cannot_be_grouped_are_refused() -> None:
    with pytest.raises(ModelError, match="a weight has 40 columns; they must be a multiple of 32"):
        quantise(torch.zeros(2, 40), 8)
    with pytest.raises(ModelError, match="quantization is 'int2'; allowed: none, int8, int4"):
        load_model("tiny", device="cpu", quantization="int2")


@pytest.mark.parametrize("kernels", ["torch", "auto"])
def test_few_bits_save_memory_and_cost_little_perplexity(kernels: str) -> None:
    with torch_threads(1):
        text = list(b"It was the best of times, it was the worst of times, it was the age of wisdom.")
        models = {
            name: load_model("tiny", "float32", "cpu", seed=3, kernels=kernels, quantization=name)
            for name in ("none", "int8", "int4")
        }
        exact = perplexity(models["none"], text)
        assert abs(math.log(perplexity(models["int8"], text) / exact)) < 0.02
        assert abs(math.log(perplexity(models["int4"], text) / exact)) < 0.2
    embedding = 258 * 64 * 4
    matrices = {name: loaded.model.weight_bytes - embedding for name, loaded in models.items()}
    assert matrices["int8"] < 0.28 * matrices["none"]
    assert matrices["int4"] < 0.17 * matrices["none"]


def test_a_burst_is_served_in_four_bits() -> None:
    result = run_bench("tiny", 3, 20, 4, dtype="bfloat16", threads=1, device="cpu", quantization="int4")
    assert result.quantization == "int4"
    assert result.cold_start_s == pytest.approx(sum((result.phases_s or {}).values()))
    assert list(result.phases_s or {}) == ["base", "config", "tokenizer", "weights", "kernels", "kv_cache", "warm_up"]
