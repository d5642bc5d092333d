"""The limits under which the scheduler decides."""

from dataclasses import dataclass

from probe_engine.sched.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Capacity and limits of one replica.

    num_blocks: KV blocks in all; block_size: tokens a block.
    max_num_batched_tokens: most tokens computed in one step (decodes and prefill chunks together).
    max_num_seqs: most requests running at once; every one of them must find room in a step, so at most
    ``max_num_batched_tokens``.
    max_model_len: most tokens (prompt and output) of one request.
    prefix_cache: whether blocks of equal hash are shared and kept after their request has gone.
    Raises ``ConfigError``.
    """

    num_blocks: int
    block_size: int = 16
    max_num_batched_tokens: int = 2048
    max_num_seqs: int = 256
    max_model_len: int = 4096
    prefix_cache: bool = True

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

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold ``tokens`` tokens."""
        return -(-tokens // self.block_size)
