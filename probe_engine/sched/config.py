"""The limits under which the scheduler decides."""

from dataclasses import dataclass
from typing import Literal, get_args

from probe_engine.sched.errors import ConfigError

Policy = Literal["fcfs", "priority", "fair", "slo", "static", "dynamic"]
BATCH_POLICIES = ("static", "dynamic")


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Capacity and limits of one replica.

    num_blocks: KV blocks in all; block_size: tokens a block.
    max_num_batched_tokens: most tokens computed in one step (decodes and prefill chunks together).
    max_num_seqs: most requests running at once; every one of them must find room in a step, so at most
    ``max_num_batched_tokens``.
    max_model_len: most tokens (prompt and output) of one request.
    prefix_cache: whether blocks of equal hash are shared and kept after their request has gone.
    policy: the order of admission, see ``policies.py``. priority_ageing_s (``priority``): waiting that makes up for one
    class. fair_output_weight (``fair``): what an output token counts against a prompt token. ttft_slo_s and
    prefill_s_per_token (``slo``): the deadline of requests that bring none, and what a prompt's token costs.
    preferred_batch_sizes, max_queue_delay_s and length_buckets (``dynamic``): see ``batch_queue.py``.
    itl_slo_s: where given, fewer than ``max_num_seqs`` may run, so many that tokens come within it; see
    ``batch_limit.py``. It goes with policies that batch continuously.
    Raises ``ConfigError``.
    """

    num_blocks: int
    block_size: int = 16
    max_num_batched_tokens: int = 2048
    max_num_seqs: int = 256
    max_model_len: int = 4096
    prefix_cache: bool = True
    policy: Policy = "fcfs"
    priority_ageing_s: float = 10.0
    fair_output_weight: float = 2.0
    ttft_slo_s: float = 1.0
    prefill_s_per_token: float = 0.0
    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_delay_s: float = 0.05
    length_buckets: tuple[int, ...] = ()
    itl_slo_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("num_blocks", "block_size", "max_num_batched_tokens", "max_num_seqs", "max_model_len"):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1")
        if self.max_num_seqs > self.max_num_batched_tokens:
            raise ConfigError(
                f"max_num_seqs is {self.max_num_seqs}; each running request decodes one token a step, "
                f"so it must be at most max_num_batched_tokens ({self.max_num_batched_tokens})"
            )
        self._check_policy()

    def _check_policy(self) -> None:
        if self.policy not in get_args(Policy):
            raise ConfigError(f"policy is {self.policy!r}; it must be one of {', '.join(get_args(Policy))}")
        for name in ("priority_ageing_s", "ttft_slo_s", "itl_slo_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value}; it must be more than 0")
        for name in ("fair_output_weight", "prefill_s_per_token", "max_queue_delay_s"):
            value = getattr(self, name)
            if not value >= 0:
                raise ConfigError(f"{name} is {value}; it must be at least 0")
        for name in ("preferred_batch_sizes", "length_buckets"):
            for value in getattr(self, name):
                if value < 1:
                    raise ConfigError(f"{name} has {value}; each must be at least 1")
        if max(self.preferred_batch_sizes, default=0) > self.max_num_seqs:
            raise ConfigError(
                f"preferred_batch_sizes has {max(self.preferred_batch_sizes)}; "
                f"no batch is larger than max_num_seqs ({self.max_num_seqs})"
            )
        if self.itl_slo_s is not None and self.policy in BATCH_POLICIES:
            raise ConfigError(f"itl_slo_s is {self.itl_slo_s}; policy {self.policy} has no batch size to adapt")

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold ``tokens`` tokens."""
        return -(-tokens // self.block_size)
