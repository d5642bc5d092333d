"""A job: targets that are found and scraped alike; from an address and its labels to a target.

Source: Prometheus ``scrape/target.go``, ``PopulateLabels``. As in 3.x, an address keeps no port where it has none.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote, urlencode

import httpx

from collector.model.errors import ConfigError
from collector.model.labels import Labels, from_mapping
from collector.promql.durations import format_duration
from collector.scrape.access import OPEN, Access
from collector.scrape.discovery import FileSource, HttpSource, TargetGroup
from collector.scrape.document import duration_s
from collector.scrape.relabel import Rule, relabel
from collector.scrape.target import ScrapeLimits, Target

_HOST_PORT = re.compile(r"(?:\[[^\]/\s]+\]|[^:/\s\[\]]+)(?::([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Job:
    """One entry of ``scrape_configs``; ``fixed`` targets are given whole, such as on the command line."""

    name: str
    interval_s: float = 60.0
    timeout_s: float = 10.0
    path: str = "/metrics"
    scheme: str = "http"
    params: tuple[tuple[str, tuple[str, ...]], ...] = ()
    honor_labels: bool = False
    honor_timestamps: bool = True
    limits: ScrapeLimits = ScrapeLimits()
    target_limit: int | None = None
    relabel: tuple[Rule, ...] = ()
    metric_relabel: tuple[Rule, ...] = ()
    access: Access = OPEN
    groups: tuple[TargetGroup, ...] = ()
    sources: tuple[FileSource | HttpSource, ...] = ()
    fixed: tuple[Target, ...] = ()

    def accesses(self) -> Iterator[Access]:
        """Every way in which this job speaks to others."""
        yield self.access
        yield from (source.access for source in self.sources if isinstance(source, HttpSource))
        yield from (target.access for target in self.fixed)

    def discovered(self, group: TargetGroup) -> Iterator[Labels]:
        """The labels of each address of a group, before relabelling."""
        own = {
            "job": self.name,
            "__scrape_interval__": format_duration(round(self.interval_s * 1000)),
            "__scrape_timeout__": format_duration(round(self.timeout_s * 1000)),
            "__metrics_path__": self.path,
            "__scheme__": self.scheme,
        }
        given = {name: value for name, value in group.labels if value}
        params = {f"__param_{name}": values[0] for name, values in self.params if values}
        for address in group.targets:
            yield from_mapping(own | given | {"__address__": address} | params)

    def target(self, discovered: Labels) -> Target | None:
        """The target that these labels make; None where relabelling drops it, ConfigError where they make none."""
        labels = relabel(dict(discovered), self.relabel)
        if labels is None:
            return None
        address, scheme = labels.get("__address__", ""), labels.get("__scheme__", "")
        _check_address(address, scheme)
        interval_s, timeout_s = _duration(labels, "__scrape_interval__"), _duration(labels, "__scrape_timeout__")
        if timeout_s > interval_s:
            raise ConfigError(f"target {address}: scrape timeout {timeout_s:g} s is longer than {interval_s:g} s")
        own = {name: value for name, value in labels.items() if not name.startswith("__")}
        own.setdefault("instance", address)
        return Target(
            url=self._url(labels),
            labels=from_mapping(own),
            interval_s=interval_s,
            timeout_s=timeout_s,
            honor_labels=self.honor_labels,
            honor_timestamps=self.honor_timestamps,
            limits=self.limits,
            metric_relabel=self.metric_relabel,
            access=self.access,
            pool=self.name,
            discovered=discovered,
        )

    def _url(self, labels: Mapping[str, str]) -> str:
        params = {name: list(values) for name, values in self.params}
        for name, value in sorted(labels.items()):
            if name.startswith("__param_"):
                key = name.removeprefix("__param_")
                params[key] = [value, *params.get(key, [])[1:]]
        path = quote(labels.get("__metrics_path__", ""), safe="/:@!$&'()*+,;=~-._")
        url = f"{labels.get('__scheme__', '')}://{labels['__address__']}{path if path.startswith('/') else '/' + path}"
        query = urlencode([(key, value) for key in sorted(params) for value in params[key]])
        return f"{url}?{query}" if query else url


@dataclass(frozen=True, slots=True)
class Found:
    """What a job's groups come to: targets by key, label sets that relabelling dropped, and what makes no target."""

    targets: Mapping[str, Target]
    dropped: tuple[Labels, ...] = ()
    faults: tuple[str, ...] = ()


def find_targets(job: Job, groups: Iterable[TargetGroup]) -> Found:
    """The targets of a job; the same one given twice counts once."""
    targets = {target.key: target for target in job.fixed}
    dropped: list[Labels] = []
    faults: list[str] = []
    for group in groups:
        for labels in job.discovered(group):
            try:
                target = job.target(labels)
            except ConfigError as error:
                faults.append(f"{group.source}: {error}" if group.source else str(error))
                continue
            if target is None:
                dropped.append(labels)
            else:
                targets.setdefault(target.key, target)
    if job.target_limit is not None and len(targets) > job.target_limit:
        refusal = f"job {job.name} has {len(targets)} targets; at most {job.target_limit} are scraped (target_limit)"
        targets = {key: replace(target, refusal=refusal) for key, target in targets.items()}
    return Found(targets, tuple(dropped), tuple(faults))


def _check_address(address: str, scheme: str) -> None:
    match = _HOST_PORT.fullmatch(address)
    if match is None or (match[1] is not None and int(match[1]) > 65_535):
        raise ConfigError(f'__address__ is "{address}"; a target is HOST:PORT, such as 10.0.0.1:8000')
    if scheme not in ("http", "https"):
        raise ConfigError(f'target {address}: __scheme__ is "{scheme}"; it may be http or https')
    try:
        httpx.URL(f"{scheme}://{address}")
    except httpx.InvalidURL as error:
        raise ConfigError(f'__address__ is "{address}"; {error}') from error


def _duration(labels: Mapping[str, str], name: str) -> float:
    try:
        return duration_s(labels.get(name, ""))
    except ValueError as error:
        raise ConfigError(f'{name} is "{labels.get(name, "")}"; {error}') from error
