"""Which experiments there are, and what trace each reads when none is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from probe_engine.errors import ExperimentError
from probe_engine.experiments.options import Options
from probe_engine.experiments.report import Report

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "traces"
CONVERSATION = "azure_conv_10min.csv"
PREFIXES = "mooncake_conversation_10min.jsonl"


@dataclass(frozen=True, slots=True)
class Experiment:
    """module: has ``run(options) -> Report``. trace: name of its sample."""

    module: str
    what: str
    trace: str = CONVERSATION

    @property
    def run(self) -> Callable[[Options], Report]:
        """The experiment itself; imported when asked for."""
        found: Callable[[Options], Report] = import_module(f"probe_engine.experiments.{self.module}").run
        return found


EXPERIMENTS: Mapping[str, Experiment] = {
    "kv": Experiment("kv", "static against paged KV memory"),
    "batching": Experiment("batching", "static, dynamic and continuous batching"),
    "priority": Experiment("priority", "classes and ageing under overload"),
    "slo-batch": Experiment("slo_batch", "a batch size that follows a latency promise"),
    "prefix-routing": Experiment("prefix_routing", "prefix hashing against round robin over 4 replicas", PREFIXES),
    "stability": Experiment("stability", "100, 1,000 and 5,000 streams at once, 5% of which hang up"),
    "memory": Experiment("memory", "a soak: does memory grow, do blocks leak"),
    "isolation": Experiment("isolation", "plain process, sandbox and container: start, latency, memory"),
    "quantization": Experiment("quantization", "weights of 8 and 4 bits: memory, likeness, speed"),
    "tensor-parallel": Experiment("tensor_parallel", "one model in two processes: same tokens, speed, memory"),
}


def find(name: str) -> Experiment:
    """The experiment of this name; ``ExperimentError`` lists what there is."""
    found = EXPERIMENTS.get(name)
    if found is None:
        raise ExperimentError(f"{name!r} is no experiment; there are {', '.join(EXPERIMENTS)}")
    return found


def sample(experiment: Experiment) -> Path:
    """Its sample trace; ``ExperimentError`` where the samples are not beside the program."""
    path = SAMPLES / experiment.trace
    if not path.is_file():
        raise ExperimentError(f"{path} is not there; give a trace with --trace")
    return path
