"""The C++ operations against those in torch, and what happens where they cannot be built."""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pytest
import torch

from probe_engine.errors import ModelError
from probe_engine.model.attention import ChunkSpan, StepBatch
from probe_engine.model.config import ModelConfig
from probe_engine.model.kernels import COMPILERS, Kernels, KernelsUnavailable, load_kernels
from probe_engine.model.linear import Linears, PlainLinear, panel_linears, pick_linear
from probe_engine.model.native_ops import NativeOps
from probe_engine.model.ops import Ops, pick_ops
from probe_engine.model.torch_ops import TorchOps
from probe_engine.profile.threads import torch_threads

CONFIG = ModelConfig(
    vocab_size=32,
    hidden_size=128,
    intermediate_size=96,
    layers=1,
    heads=6,
    kv_heads=2,
    head_dim=96,
    max_tokens=512,
)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[int]:
    with torch_threads(1) as threads:  # several spin against each other where the machine is busy
        yield threads


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    assert isinstance(request.param, torch.dtype)
    return request.param


@pytest.fixture(scope="module")
def compiler() -> str:
    found = next((path for name in COMPILERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no C++ compiler ({', '.join(COMPILERS)})")
    return found


@pytest.fixture(scope="module")
def kernels(dtype: torch.dtype, compiler: str) -> Kernels:
    return load_kernels(dtype)


@pytest.fixture(scope="module")
def both(dtype: torch.dtype, kernels: Kernels) -> tuple[Ops, Ops]:
    like = torch.zeros(1, dtype=dtype)
    return NativeOps(CONFIG, like, kernels), TorchOps(CONFIG, like)


def values(dtype: torch.dtype, *shape: int, seed: int = 0, spread: float = 1.0) -> torch.Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * spread).to(dtype)


def close(native: torch.Tensor, reference: torch.Tensor) -> None:
    tolerance = TOLERANCE[reference.dtype]
    torch.testing.assert_close(native, reference, atol=tolerance, rtol=tolerance)


def step(contexts: list[int], chunk: tuple[int, int], block_size: int) -> StepBatch:
    """Single rows with these contexts and one chunk (start, tokens), each with blocks of its own in mixed order."""
    ends = [*contexts, chunk[0] + chunk[1]]
    counts = [-(-end // block_size) for end in ends]
    mixed = torch.randperm(sum(counts), generator=torch.Generator().manual_seed(9)).tolist()
    tables = [[mixed.pop() for _ in range(count)] for count in counts]
    positions = [context - 1 for context in contexts] + list(range(chunk[0], sum(chunk)))
    owners = [*range(len(contexts)), *([len(contexts)] * chunk[1])]
    slots = [
        tables[owner][position // block_size] * block_size + position % block_size
        for owner, position in zip(owners, positions, strict=True)
    ]
    width = max(counts[:-1])
    padded = [table + [0] * (width - len(table)) for table in tables[:-1]]
    return StepBatch(
        token_ids=torch.zeros(len(positions), dtype=torch.int64),
        positions=torch.tensor(positions),
        slots=torch.tensor(slots),
        contexts=torch.tensor(contexts),
        tables=torch.tensor(padded),
        chunks=(ChunkSpan(len(contexts), len(positions), chunk[0], torch.tensor(tables[-1])),),
        sampled_rows=torch.tensor([0]),
    )


def attended(ops: Ops, dtype: torch.dtype, contexts: list[int], block_size: int) -> torch.Tensor:
    """Fill the cache by chunks from position 0, then attend single rows and a chunk that follows on what is there."""
    cache = ops.new_cache(640, block_size)
    width = (CONFIG.heads + 2 * CONFIG.kv_heads) * CONFIG.head_dim
    batch = step(contexts, (40, 5), block_size)
    for index, context in enumerate([*contexts, 40]):
        table = batch.tables[index] if index < len(contexts) else batch.chunks[0].table
        places = torch.arange(context)
        fill = StepBatch(
            token_ids=places,
            positions=places,
            slots=table[places // block_size] * block_size + places % block_size,
            contexts=torch.zeros(0, dtype=torch.int64),
            tables=torch.zeros((0, 0), dtype=torch.int64),
            chunks=(ChunkSpan(0, context, 0, table),),
            sampled_rows=places[:0],
        )
        ops.attention(fill, cache)(0, values(dtype, context, width, seed=index))
    return ops.attention(batch, cache)(0, values(dtype, len(batch.positions), width, seed=99))


@pytest.mark.parametrize("block_size", [1, 5, 8, 16, 48])
def test_attention_over_the_block_table_is_that_of_torch(
    both: tuple[Ops, Ops], dtype: torch.dtype, block_size: int
) -> None:
    contexts = [1, 2, 15, 16, 17, 33, 200] if block_size > 1 else [1, 2, 15, 17, 33]
    native, reference = (attended(ops, dtype, contexts, block_size) for ops in both)
    close(native, reference)


@pytest.mark.parametrize("window", [None, 20])
@pytest.mark.parametrize("block_size", [5, 16])
def test_chunks_of_one_step_attend_each_to_its_own_context(
    kernels: Kernels, dtype: torch.dtype, block_size: int, window: int | None
) -> None:
    config, like, spans = replace(CONFIG, window=window), torch.zeros(1, dtype=dtype), [(0, 9), (70, 23), (33, 2)]
    width = (CONFIG.heads + 2 * CONFIG.kv_heads) * CONFIG.head_dim
    native, reference = (
        _by_chunks(ops, [(0, start) for start, _ in spans if start], spans, block_size, values(dtype, 34, width))
        for ops in (NativeOps(config, like, kernels), TorchOps(config, like))
    )
    close(native, reference)


def _by_chunks(
    ops: Ops, filled: list[tuple[int, int]], spans: list[tuple[int, int]], block_size: int, rows: torch.Tensor
) -> torch.Tensor:
    """Sequences with blocks of their own: ``filled`` those that have a context already, then one step of ``spans``."""
    cache = ops.new_cache(64, block_size)
    tables = [torch.randperm(20, generator=torch.Generator().manual_seed(at)) + 20 * at for at in range(len(spans))]

    def run(chunks: list[tuple[int, int]], owners: list[torch.Tensor], qkv: torch.Tensor) -> torch.Tensor:
        positions = [torch.arange(start, start + count) for start, count in chunks]
        slots = [
            table[at // block_size] * block_size + at % block_size for table, at in zip(owners, positions, strict=True)
        ]
        lasts = list(accumulate(count for _, count in chunks))
        batch = StepBatch(
            token_ids=torch.cat(positions),
            positions=torch.cat(positions),
            slots=torch.cat(slots),
            contexts=torch.zeros(0, dtype=torch.int64),
            tables=torch.zeros((0, 0), dtype=torch.int64),
            chunks=tuple(
                ChunkSpan(last - count, last, start, table[: -(-(start + count) // block_size)])
                for (start, count), last, table in zip(chunks, lasts, owners, strict=True)
            ),
            sampled_rows=torch.tensor([0]),
        )
        return ops.attention(batch, cache)(0, qkv)

    begun = [table for (start, _), table in zip(spans, tables, strict=True) if start]
    run(filled, begun, values(rows.dtype, sum(count for _, count in filled), rows.shape[1], seed=5))
    return run(spans, tables, rows)


def test_norms_are_those_of_torch(both: tuple[Ops, Ops], dtype: torch.dtype) -> None:
    weight = values(dtype, CONFIG.hidden_size, seed=1)
    native, reference = (ops.norm(values(dtype, 300, CONFIG.hidden_size), weight) for ops in both)
    close(native, reference)
    delta = values(dtype, 300, CONFIG.hidden_size, seed=2)
    (added, normed), (added_there, normed_there) = (
        ops.add_norm(values(dtype, 300, CONFIG.hidden_size), delta, weight) for ops in both
    )
    close(added, added_there)
    close(normed, normed_there)


def test_the_gate_is_that_of_torch_up_to_the_ends_of_its_range(both: tuple[Ops, Ops], dtype: torch.dtype) -> None:
    gate_up = values(dtype, 40, 2 * CONFIG.intermediate_size, spread=60.0)
    native, reference = (ops.gated(gate_up) for ops in both)
    close(native, reference)


def test_scores_of_any_size_soften_without_overflow(both: tuple[Ops, Ops], dtype: torch.dtype) -> None:
    width = (CONFIG.heads + 2 * CONFIG.kv_heads) * CONFIG.head_dim
    batch = step([33], (0, 2), 16)
    outcomes = []
    for ops in both:
        cache = ops.new_cache(8, 16)
        ops.attention(batch, cache)(0, values(dtype, 3, width, spread=100.0))
        outcomes.append(ops.attention(batch, cache)(0, values(dtype, 3, width, seed=1, spread=100.0)))
    assert outcomes[0].isfinite().all()
    close(*outcomes)


def test_what_lies_beyond_a_context_is_never_read(both: tuple[Ops, Ops], dtype: torch.dtype) -> None:
    width = (CONFIG.heads + 2 * CONFIG.kv_heads) * CONFIG.head_dim
    batch = step([1, 1, 1], (0, 2), 48)
    cache = both[0].new_cache(8, 48)
    for tensor in (*cache.keys, *cache.values):
        tensor.fill_(float("nan"))
    assert both[0].attention(batch, cache)(0, values(dtype, 5, width)).isfinite().all()


def test_not_a_number_is_not_hidden(both: tuple[Ops, Ops], dtype: torch.dtype) -> None:
    gate_up = torch.full((1, 2 * CONFIG.intermediate_size), float("nan"), dtype=dtype)
    assert both[0].gated(gate_up).isnan().all()


def test_without_a_compiler_there_is_one_reason(tmp_path: Path) -> None:
    with pytest.raises(KernelsUnavailable, match=r"no C\+\+ compiler \(no-such-compiler\)"):
        load_kernels(torch.float32, tmp_path, ("no-such-compiler",))


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KernelsUnavailable, match=r"false cannot build kernels.cpp: exit code 1"):
        load_kernels(torch.float32, tmp_path / "built", ("false",))
    assert list((tmp_path / "built").iterdir()) == []


def test_a_built_library_is_used_again(tmp_path: Path, compiler: str) -> None:
    load_kernels(torch.float32, tmp_path)
    (library,) = tmp_path.iterdir()
    built = library.stat().st_mtime_ns
    load_kernels(torch.bfloat16, tmp_path)
    assert [path.stat().st_mtime_ns for path in tmp_path.iterdir()] == [built]


def test_a_cache_directory_that_cannot_be_made_is_a_reason(tmp_path: Path, compiler: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KernelsUnavailable, match="cannot be loaded"):
        load_kernels(torch.float32, tmp_path / "file" / "below")


def test_models_that_the_kernels_do_not_compute_run_on_torch(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert pick_ops("auto", CONFIG, torch.zeros(1, dtype=torch.float16)).name == "torch"
    assert not caplog.records
    with pytest.raises(ModelError, match="float16 on cpu"):
        pick_ops("native", CONFIG, torch.zeros(1, dtype=torch.float16))
    with pytest.raises(ModelError, match="kernels is 'fast'; allowed: auto, native, torch"):
        pick_ops("fast", CONFIG, torch.zeros(1))


def test_threads_change_nothing(both: tuple[Ops, Ops], dtype: torch.dtype) -> None:
    alone = attended(both[0], dtype, [200] * 40, 16)
    with torch_threads(3):
        together = attended(both[0], dtype, [200] * 40, 16)
    singles = slice(0, 40)  # what follows them goes through torch, whose sums depend on its threads
    assert torch.equal(alone[singles], together[singles])


@pytest.mark.parametrize("rows", [1, 7, 64, 500])
def test_a_packed_weight_gives_the_product_of_the_plain_one(dtype: torch.dtype, rows: int) -> None:
    weight, hidden = values(dtype, 96, 40, spread=0.1), values(dtype, rows, 40, seed=1)
    close(pick_linear(weight)(weight, None)(hidden), PlainLinear(weight)(hidden))


@pytest.mark.parametrize(("rows", "columns", "depth"), [(1, 32, 2), (7, 96, 40), (27, 64, 1400), (200, 320, 66)])
def test_a_weight_in_panels_gives_the_product_of_the_plain_one(rows: int, columns: int, depth: int) -> None:
    linears = panels()
    weight, bias = values(torch.bfloat16, columns, depth, spread=0.1), values(torch.bfloat16, columns, seed=2)
    hidden = values(torch.bfloat16, rows, depth, seed=1)
    with torch_threads(2):
        found = linears.column(weight, bias)(hidden)
    close(found, PlainLinear(weight, bias)(hidden))
    gate, up = PlainLinear(weight)(hidden).float().chunk(2, dim=-1)
    assert linears.gated is not None
    close(linears.gated(weight, None)(hidden), (torch.nn.functional.silu(gate) * up).bfloat16())


def test_weights_that_make_no_whole_panels_are_prepared_otherwise() -> None:
    odd = values(torch.bfloat16, 96, 41)
    assert isinstance(panels().head(odd, None), PlainLinear)
    assert isinstance(panels().head(values(torch.bfloat16, 90, 40), None), PlainLinear)
    assert panels().head(values(torch.bfloat16, 96, 40), None).weight_bytes == 96 * 40 * 2


def panels() -> Linears:
    kernels = load_kernels(torch.bfloat16)
    if not kernels.multiplies:
        pytest.skip("this processor has no bfloat16 dot products")
    return panel_linears(kernels, PlainLinear)


def test_weights_that_cannot_be_packed_stay_plain() -> None:
    assert pick_linear(torch.zeros(1, dtype=torch.float16)) is PlainLinear
    assert pick_linear(torch.zeros(1, device="meta")) is PlainLinear


@pytest.mark.parametrize("size", [1, 15, 16, 511, 512, 513, 1000])
def test_the_likeliest_token_is_the_first_of_the_largest(size: int, dtype: torch.dtype, kernels: Kernels) -> None:
    logits = torch.randn(9, size, generator=torch.Generator().manual_seed(size)).to(dtype)
    logits[1] = float("-inf")
    logits[2] = 0.5
    logits[3, [0, -1]] = 9.0
    assert kernels.likeliest(logits).tolist() == logits.float().numpy().argmax(axis=-1).tolist()
