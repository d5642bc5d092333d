"""What stands beside the engines and grows with them: network, answer cache, vector database.

Rules of thumb on the peak, each with its own figure to replace; nothing here is simulated.
"""

from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class Rules:
    """Figures that the sizes stand on.

    A streamed token is framed as an event of its own (``stream_bytes_per_token``). The cache keeps ``cache_ttl_s`` of
    the peak's answers and ``cache_spare_ratio`` on top. ``retrieval_ratio`` of the requests ask the vector database, of
    which one replica answers ``vector_per_s``; ``vector_spare`` may be gone.
    """

    text_bytes_per_token: float = 4.0
    stream_bytes_per_token: float = 250.0
    request_bytes: float = 1500.0
    cache_ttl_s: float = 3600.0
    cache_spare_ratio: float = 0.3
    retrieval_ratio: float = 0.5
    vector_per_s: float = 200.0
    vector_spare: int = 2


@dataclass(frozen=True, slots=True)
class Beside:
    """Sizes for a peak: bits per second in and out, bytes of the cache, replicas of the vector database."""

    in_bits_per_s: float
    out_bits_per_s: float
    cache_bytes: float
    vector_replicas: int


def beside(peak_per_s: float, prompt_tokens: float, output_tokens: float, rules: Rules = Rules()) -> Beside:
    """Sizes for ``peak_per_s`` requests of these mean lengths."""
    text = rules.text_bytes_per_token
    answer = (prompt_tokens + output_tokens) * text + rules.request_bytes
    asked = peak_per_s * rules.retrieval_ratio
    return Beside(
        in_bits_per_s=8 * peak_per_s * (prompt_tokens * text + rules.request_bytes),
        out_bits_per_s=8 * peak_per_s * (output_tokens * rules.stream_bytes_per_token + rules.request_bytes),
        cache_bytes=peak_per_s * rules.cache_ttl_s * answer * (1 + rules.cache_spare_ratio),
        vector_replicas=ceil(asked / rules.vector_per_s) + rules.vector_spare if asked else 0,
    )
