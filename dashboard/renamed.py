"""Guesses under which new name a metric goes that a source should hold: engines rename, and panels fall silent."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from collector.signals import Vocabulary, names_known

ALIKE = 0.8
SUFFIXES = ("_bucket", "_count", "_sum")


def likely(vocabulary: Vocabulary, signal: str, held: Iterable[str]) -> str:
    """A name in ``held`` that no dialect knows and that resembles the one that ``signal`` should have; else empty."""
    known = names_known()
    unknown = {_family(name) for name in held if name not in known} - known
    for dialect in vocabulary.dialects:
        for candidate in dialect.signals.get(signal, ()):
            found: Sequence[str] = get_close_matches(candidate.metric, sorted(unknown), n=1, cutoff=ALIKE)
            if found:
                return found[0]
    return ""


def _family(name: str) -> str:
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)
