"""The targets of one job as they are now, each with its scraper."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from collector.model.labels import Labels
from collector.scrape.access import Clients
from collector.scrape.discovery import TargetGroup
from collector.scrape.job import Job, find_targets
from collector.scrape.scraper import Scraper, ScrapeSink


@dataclass(frozen=True, slots=True)
class Change:
    """What a look at the targets changed; ``replaced`` ones live on under the same key with other settings."""

    begun: tuple[Scraper, ...]
    gone: tuple[Scraper, ...]
    replaced: tuple[Scraper, ...]


class Pool:
    """Scrapers of one job by target key, in the order of their keys.

    ``dropped`` are label sets that relabelling dropped, ``faults`` say which make no target.
    """

    def __init__(self, job: Job, store: ScrapeSink, clients: Clients) -> None:
        self.job = job
        self.scrapers: dict[str, Scraper] = {}
        self.dropped: tuple[Labels, ...] = ()
        self.faults: tuple[str, ...] = ()
        self._store = store
        self._clients = clients
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._found: dict[int, Sequence[TargetGroup]] = {}

    def configure(self, job: Job) -> Change:
        """Follow a new configuration; what the same sources had found stays until they are asked again."""
        if job.sources != self.job.sources:
            self._found.clear()
        self.job = job
        return self.look()

    def found(self, place: int, groups: Sequence[TargetGroup]) -> Change:
        """Take what the source at ``place`` of the job's sources found."""
        self._found[place] = groups
        return self.look()

    def look(self) -> Change:
        """Bring the scrapers in line with what is listed and found."""
        several = (self.job.groups, *(self._found[place] for place in sorted(self._found)))
        found = find_targets(self.job, (group for groups in several for group in groups))
        self.dropped, self.faults = found.dropped, found.faults
        before, after, begun = self.scrapers, dict[str, Scraper](), list[Scraper]()
        contexts = dict[str, ssl.SSLContext]()
        for key, target in sorted(found.targets.items()):
            scraper = before.get(key)
            context = self._clients.context(target.access.tls)
            if scraper is None or scraper.target != target or self._contexts.get(key) is not context:
                scraper = Scraper(target, self._store, self._clients.open(target.access))
                begun.append(scraper)
            contexts[key] = context
            after[key] = scraper
        ended = [scraper for key, scraper in before.items() if after.get(key) is not scraper]
        self.scrapers, self._contexts = after, contexts
        gone = tuple(scraper for scraper in ended if scraper.target.key not in after)
        return Change(tuple(begun), gone, tuple(scraper for scraper in ended if scraper.target.key in after))
