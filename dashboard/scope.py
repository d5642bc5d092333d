"""What the filters of a page can choose among: engines, pools, replicas, tenants, as the source names them now."""

from dataclasses import dataclass

from collector.client import Client
from collector.model.labels import get
from collector.signals import Vocabulary

TENANT = "tenant"
PRESENCE = "running_requests"
"""The gauge that every engine has: whoever shows it is a replica."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Names by kind, sorted; ``tenants`` are values of the label ``tenant``, wherever the source uses it."""

    pools: tuple[str, ...]
    replicas: tuple[str, ...]
    engines: tuple[str, ...]
    tenants: tuple[str, ...]


def engines_of(vocabulary: Vocabulary) -> tuple[str, ...]:
    """The dialects of a vocabulary that are engines, not exporters or the scraper."""
    return tuple(dialect.engine for dialect in vocabulary.dialects if PRESENCE in dialect.signals)


def read_scope(client: Client, vocabulary: Vocabulary, at_s: float | None) -> Scope:
    """Ask the source. Raises SourceError."""
    engines = engines_of(vocabulary)
    if not vocabulary.present(PRESENCE):
        return Scope((), (), engines, ())
    samples = client.query(vocabulary.replicas(by=("pool", "instance")), at_s)
    pools = {get(sample.labels, "pool") for sample in samples} - {""}
    replicas = {get(sample.labels, "instance") for sample in samples} - {""}
    return Scope(tuple(sorted(pools)), tuple(sorted(replicas)), engines, client.label_values(TENANT))
