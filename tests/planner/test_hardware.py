import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from planner.catalog import load_catalog
from planner.cli import app
from planner.errors import CapacityError, CatalogError
from planner.money.hardware import Layout, fit_memory, roofline, smallest_tensor

BOOK = load_catalog()
SAMPLE = Path(__file__).parents[2] / "samples" / "traces" / "azure_conv_10min.csv"


def test_the_kv_cache_of_a_real_vllm_is_foretold_within_a_tenth() -> None:
    # vLLM 0.19 on an RTX 4090 with Llama-3.1-8B in bf16, 2,048 tokens and 256 sequences: 2,588 blocks of 16 tokens
    fit = fit_memory(BOOK.gpu("RTX4090"), BOOK.model("llama-3.1-8b"), Layout())
    assert fit.kv_tokens == pytest.approx(2588 * 16, rel=0.1)


def test_splitting_and_quantising_leave_more_room() -> None:
    gpu, sheet = BOOK.gpu("H100"), BOOK.model("Llama-3.1-70B")
    whole, split = (fit_memory(gpu, sheet, Layout(tensor=tensor)) for tensor in (1, 4))
    assert not whole.fits
    assert split.weights_bytes == pytest.approx(whole.weights_bytes / 4)
    assert split.fits
    assert fit_memory(gpu, sheet, Layout(tensor=4, weights="int4")).kv_tokens > split.kv_tokens
    assert fit_memory(gpu, sheet, Layout(tensor=4, kv="fp8")).kv_tokens == pytest.approx(2 * split.kv_tokens, rel=1e-3)


def test_kv_heads_are_copied_where_there_are_more_ranks_than_heads() -> None:
    gpu, sheet = BOOK.gpu("H100"), BOOK.model("Qwen3-30B-A3B")
    four, eight = (fit_memory(gpu, sheet, Layout(tensor=tensor)).kv_token_bytes for tensor in (4, 8))
    assert four == eight


def test_the_smallest_layout_that_holds_a_model_is_found() -> None:
    found = smallest_tensor(BOOK.gpu("A100-80"), BOOK.model("Llama-3.1-70B"), Layout(), 16_384)
    assert found is not None
    assert found.layout.tensor == 4
    assert smallest_tensor(BOOK.gpu("T4"), BOOK.model("Llama-3.1-70B"), Layout(), 16_384) is None


def test_a_faster_memory_makes_a_faster_step() -> None:
    sheet = BOOK.model("Llama-3.1-8B")
    slow, fast = (roofline(BOOK.gpu(name), sheet, Layout()) for name in ("A100-80", "H100"))
    assert fast.step_s < slow.step_s
    assert fast.decode_kv_token_s < slow.decode_kv_token_s


def test_every_entry_has_its_source_and_every_list_its_day() -> None:
    assert all(entry.source.startswith("https://") for entry in (*BOOK.gpus, *BOOK.models, *BOOK.apis))
    assert BOOK.as_of == "2025-06-30"


def test_ones_own_list_replaces_entries_and_adds_others(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "as_of: 2026-01-01\ngpus: [{name: l4, memory_gb: 24, bandwidth_gb_s: 300, tflops: 121, usd_per_hour: 9}]\n"
    )
    book = load_catalog(own)
    assert book.gpu("L4").usd_per_hour == 9
    assert len(book.gpus) == len(BOOK.gpus)


@pytest.mark.parametrize(
    ("text", "message"),
    [("gpus: [{name: X}]", r"own\.yaml: gpus"), ("[1]", "is not a mapping"), ("a: [", "is not YAML")],
)
def test_a_list_that_cannot_be_read_is_named(tmp_path: Path, text: str, message: str) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(text)
    with pytest.raises(CatalogError, match=message):
        load_catalog(own)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(CatalogError, match="GPU 'B999': must be one of"):
        BOOK.gpu("B999")


def test_a_layout_of_more_stages_than_layers_is_refused() -> None:
    with pytest.raises(CapacityError, match="pipeline 99"):
        fit_memory(BOOK.gpu("L4"), BOOK.model("Llama-2-7B"), Layout(pipeline=99))


def test_fit_prints_what_fits_and_says_no_by_its_exit_code() -> None:
    done = CliRunner().invoke(app, ["fit", "--model-name", "Llama-3.1-8B", "--gpu", "L4", "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["result"]["fits"][0]["kv_tokens"] > 10_000
    assert CliRunner().invoke(app, ["fit", "--model-name", "Llama-3.1-70B", "--gpu", "L4"]).exit_code == 1
    assert CliRunner().invoke(app, ["fit", "--model-name", "Llama-3.1-70B", "--weights", "fp3"]).exit_code == 2


def test_mix_rents_what_keeps_the_promise_in_simulation() -> None:
    slo = ["--ttft-p95", "2", "--itl-p95", "0.1", "--e2e-p95", "60"]
    asked = [
        "mix",
        str(SAMPLE),
        "--model-name",
        "Llama-3.1-8B",
        "--rate",
        "10",
        "--max-requests",
        "600",
        *slo,
        "--json",
    ]
    done, again = (CliRunner().invoke(app, asked) for _ in range(2))
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["result"]
    assert sum(found["counts"].values()) >= 1
    assert found["gap_ratio"] <= 1e-3
    assert done.stdout == again.stdout
