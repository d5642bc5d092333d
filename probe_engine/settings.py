"""What ``loadline engine serve`` takes: one model, one address, the scheduler's limits."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from probe_engine.sched import Policy

Positive = Annotated[int, Field(ge=1)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SCHEDULING = (
    *("policy", "priority_ageing_s", "fair_output_weight", "ttft_slo_s", "prefill_s_per_token"),
    *("preferred_batch_sizes", "max_queue_delay_s", "length_buckets", "itl_slo_s"),
)
UNITS = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "B": 1}


class EngineSettings(BaseModel):
    """Settings of one engine process.

    model: ``tiny`` or a Hugging Face directory. kv_memory: room for keys and values, such as ``256MiB``; num_blocks,
    where given, wins over it. max_model_len: None is the model's own, or what the KV blocks hold if that is less.
    threads: None is all cores but one. max_queue: most requests that may wait before 429.
    dummy_weights: random numbers in the shapes of the model's config.json; its weights are not read.
    policy and what goes with it: as in ``sched.SchedulerConfig``.
    quantization: bits of the weights. tensor_parallel: processes that share the model, each with threads and kv_memory.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "tiny"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    device: str = "auto"
    threads: Positive | None = None
    kv_memory: str = "256MiB"
    num_blocks: Positive | None = None
    block_size: Positive = 16
    max_num_batched_tokens: Positive = 2048
    max_num_seqs: Positive = 256
    max_model_len: Positive | None = None
    prefix_cache: bool = True
    served_model_name: str | None = None
    otlp_endpoint: str | None = None
    auth_token_file: Path | None = None
    max_queue: Positive = 1024
    quantization: Literal["none", "int8", "int4"] = "none"
    tensor_parallel: Positive = 1
    dummy_weights: bool = False
    policy: Policy = "fcfs"
    priority_ageing_s: PositiveSeconds = 10.0
    fair_output_weight: Annotated[float, Field(ge=0)] = 2.0
    ttft_slo_s: PositiveSeconds = 1.0
    prefill_s_per_token: Annotated[float, Field(ge=0)] = 0.0
    preferred_batch_sizes: tuple[Positive, ...] = ()
    max_queue_delay_s: Annotated[float, Field(ge=0)] = 0.05
    length_buckets: tuple[Positive, ...] = ()
    itl_slo_s: PositiveSeconds | None = None
    seed: int = 0
    log_format: Literal["text", "json"] = "text"

    @field_validator("kv_memory")
    @classmethod
    def _readable(cls, text: str) -> str:
        parse_bytes(text)
        return text

    def scheduling(self) -> dict[str, Any]:
        """The fields of ``SchedulerConfig`` that say how requests are ordered."""
        return {name: getattr(self, name) for name in SCHEDULING}

    @property
    def kv_memory_bytes(self) -> int:
        """``kv_memory`` as a number."""
        return parse_bytes(self.kv_memory)


def parse_bytes(text: str) -> int:
    """Bytes of a size such as ``256MiB``, ``1.5 GB`` or ``1048576``; ValueError says what is allowed."""
    unit = next((unit for unit in UNITS if text.strip().lower().endswith(unit.lower())), "")
    number = text.strip()[: len(text.strip()) - len(unit)] if unit else text.strip()
    try:
        size = round(float(number) * UNITS.get(unit, 1))
    except (ValueError, OverflowError):
        size = 0
    if size < 1:
        raise ValueError("a size looks like 256MiB, 4GiB or 1000000")
    return size
