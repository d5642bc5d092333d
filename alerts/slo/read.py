"""Reads files of objectives: OpenSLO v1 or Sloth's ``prometheus/v1``, told apart by ``apiVersion`` and ``version``."""

import re
from collections.abc import Iterator

from alerts.slo.objective import Reading
from alerts.slo.openslo import read_openslo
from alerts.slo.sloth import read_sloth
from collector.signals import Node, Vocabulary, parse_document

_BETWEEN = re.compile(r"^---[ \t]*(?:#.*)?$", re.MULTILINE)


def read_slo_file(text: str, path: str, vocabulary: Vocabulary) -> Reading:
    """Read the objectives of ``text``; ``vocabulary`` writes those that name signals. Raises DocumentError."""
    documents = [document for document in _documents(text, path) if document.value is not None]
    if not documents:
        raise Node(path, 1, 1, None).error("holds no objective; OpenSLO v1 and Sloth prometheus/v1 are read")
    reading = Reading()
    openslo = [document for document in documents if "apiVersion" in document.mapping("document")]
    if openslo:
        read_openslo(openslo, vocabulary, reading)
    for document in documents:
        if document not in openslo:
            read_sloth(document, vocabulary, reading)
    seen: set[str] = set()
    for objective in reading.objectives:
        if objective.identity in seen:
            raise documents[0].error(f"objective {objective.identity} appears twice")
        seen.add(objective.identity)
    return reading


def _documents(text: str, path: str) -> Iterator[Node]:
    """Each document of a YAML stream, with its places in the whole file."""
    start = 0
    for found in [*_BETWEEN.finditer(text), None]:
        end = len(text) if found is None else found.start()
        yield parse_document("\n" * text.count("\n", 0, start) + text[start:end], path)
        start = end if found is None else found.end()
