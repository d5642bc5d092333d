"""What weights of 8 and 4 bits save in memory and cost in perplexity and speed, on a checkpoint that has learned.

    python -m benchmarks.quantisation [--steps 150] [--threads 1]

A small Llama (byte-level, 0.7 million weights) is trained for some seconds on the first nine tenths of the repository's
LICENSE, and asked for the last tenth. Rounding a model that has learned nothing would cost nothing. Random batches are
seeded; the peer of each row is the same checkpoint unrounded.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import tokenizers
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import transformers

from probe_engine.model.loading import LoadedModel, load_model
from probe_engine.profile.bench import bench_loaded
from probe_engine.profile.perplexity import perplexity

TEXT = Path(__file__).parent.parent / "LICENSE"
VOCABULARY, WINDOW, BATCH = 256, 96, 8
SEED = 7


def trained(ids: torch.Tensor, steps: int) -> Any:
    """A model that has seen ``steps`` random batches of ``ids``."""
    torch.manual_seed(SEED)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
    )
    model = transformers.LlamaForCausalLM(config).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(steps):
        starts = torch.randint(len(ids) - WINDOW, (BATCH,))
        batch = torch.stack([ids[start : start + WINDOW] for start in starts.tolist()])
        loss = model(batch, labels=batch).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def write(model: Any, directory: Path) -> None:
    """Save ``model`` with a stand-in for a tokenizer."""
    model.save_pretrained(directory)
    words = tokenizers.models.WordLevel({f"t{index}": index for index in range(VOCABULARY)}, unk_token="t0")
    tokenizers.Tokenizer(words).save(str(directory / "tokenizer.json"))


def figures(loaded: LoadedModel, unseen: list[int], threads: int) -> dict[str, float]:
    """Of one loading of the checkpoint."""
    burst = max(bench_loaded(loaded, 16, 64, 32, threads=threads, seed=SEED).output_tokens_per_s for _ in range(2))
    return {
        "weights": loaded.model.weight_bytes / 1e6,
        "perplexity": perplexity(loaded, unseen, WINDOW),
        "speed": burst,
    }


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    text = list(TEXT.read_bytes())
    border = len(text) * 9 // 10
    with tempfile.TemporaryDirectory() as name:
        write(trained(torch.tensor(text[:border]), options.steps), Path(name))
        found = {
            kind: figures(load_model(name, "bfloat16", "cpu", quantization=kind), text[border:], options.threads)
            for kind in ("none", "int8", "int4")
        }
    units = {"weights": "MB", "perplexity": "per byte", "speed": "tok/s"}
    print(f"{'weights':10}" + "".join(f"{what + ', ' + unit:>22}" for what, unit in units.items()))
    for kind, figure in found.items():
        print(f"{kind:10}" + "".join(f"{figure[what]:>22,.3f}" for what in units))
    rows = [
        {
            "what": f"{kind} weights: {what}",
            "ours": found[kind][what],
            "peer": found["none"][what],
            "peer_name": "bfloat16",
            "unit": unit,
            "lower_is_better": what != "speed",
        }
        for kind in ("int8", "int4")
        for what, unit in units.items()
    ]
    print(json.dumps({"benchmark": "quantisation", "rows": rows}))


if __name__ == "__main__":
    main()
