"""Read a ``prometheus.yml``: what to scrape, how, where to pass it on, and the labels that go outside.

What belongs to others (rules, alerting) is passed over with a remark; anything else that is not understood is an error
with file, line and column.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from collector.forward.settings import Destination, read_remote_write, without_user
from collector.model.errors import ConfigError
from collector.model.labels import Labels, from_mapping
from collector.scrape.access import KEYS as ACCESS_KEYS
from collector.scrape.access import read_access
from collector.scrape.discovery import FILE_KEYS, HTTP_KEYS, TargetGroup, read_file_source, read_http_source
from collector.scrape.document import Faults, Fields
from collector.scrape.job import Job, find_targets
from collector.scrape.relabel import read_rules
from collector.scrape.target import ScrapeLimits, Target
from collector.signals.document import Node, parse_document
from collector.signals.errors import DocumentError

ELSEWHERE = {
    "rule_files": "rules are evaluated by `loadline alerts serve`",
    "alerting": "alerts are sent by `loadline alerts serve`",
    "evaluation_interval": "rules are evaluated by `loadline alerts serve`",
}
"""Keys that are another process's to heed."""

TOP_KEYS = ("global", "scrape_configs", "remote_write", "rule_files", "alerting")
GLOBAL_KEYS = ("scrape_interval", "scrape_timeout", "evaluation_interval", "external_labels")
LIMIT_KEYS = (
    "body_size_limit",
    "sample_limit",
    "label_limit",
    "label_name_length_limit",
    "label_value_length_limit",
    "target_limit",
)
JOB_KEYS = (
    "job_name",
    "scrape_interval",
    "scrape_timeout",
    "metrics_path",
    "scheme",
    "params",
    "honor_labels",
    "honor_timestamps",
    "static_configs",
    "file_sd_configs",
    "http_sd_configs",
    "relabel_configs",
    "metric_relabel_configs",
    *LIMIT_KEYS,
    *ACCESS_KEYS,
)
STATIC_KEYS = ("targets", "labels")
SECRETS = frozenset(("password", "credentials", "bearer_token", "client_secret"))
ADDRESSES = frozenset(("url", "proxy_url", "token_url"))
"""Keys of addresses, which are shown without user and password."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What to scrape.

    ``external_labels`` are for what leaves this collector, such as federation; ``remote_write`` is where samples are
    passed on to. ``text`` is the file without its secrets; ``remarks`` tell of keys that others heed.
    """

    jobs: tuple[Job, ...] = ()
    external_labels: Labels = ()
    text: str = ""
    remarks: tuple[str, ...] = ()
    remote_write: tuple[Destination, ...] = ()

    def targets(self) -> tuple[Target, ...]:
        """Targets that are listed in the configuration itself."""
        return tuple(target for job in self.jobs for target in find_targets(job, job.groups).targets.values())


def read_configuration(path: Path) -> Configuration:
    """The file at ``path``; ConfigError with one ``file:line:column: key: fault`` per line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse_configuration(text, str(path), path.parent.absolute())


def parse_configuration(text: str, name: str, folder: Path) -> Configuration:
    """As ``read_configuration``; ``name`` stands for the file in errors, relative paths begin at ``folder``."""
    try:
        root = parse_document(text, name)
    except DocumentError as error:
        raise ConfigError(str(error)) from error
    faults = Faults()
    top = Fields(root, "the file", TOP_KEYS, faults)
    general = top.within("global", GLOBAL_KEYS) or Fields(Node(name, 1, 1, None), "global", GLOBAL_KEYS, faults)
    jobs = tuple(_Jobs(general, folder).read(top))
    remote_write = read_remote_write(top, folder)
    external = from_mapping(general.labels("external_labels"))
    for fields in (top, general):
        for key, why in ELSEWHERE.items():
            if key in fields:
                faults.remark(fields.at(key), f"{key}: left alone; {why}")
    if faults.lines:
        raise ConfigError("\n".join(faults.lines))
    return Configuration(jobs, external, _without_secrets(text), tuple(faults.remarks), remote_write)


def with_fixed(configuration: Configuration, targets: tuple[Target, ...]) -> Configuration:
    """The configuration with further targets, each in the job that it names."""
    jobs = {job.name: job for job in configuration.jobs}
    for target in targets:
        job = jobs.get(target.job, Job(target.job))
        jobs[target.job] = replace(job, fixed=(*job.fixed, target))
    return replace(configuration, jobs=tuple(jobs.values()))


class _Jobs:
    """Reads ``scrape_configs`` with what ``global`` says as defaults."""

    def __init__(self, general: Fields, folder: Path) -> None:
        self._folder = folder
        self._interval_s = general.duration_s("scrape_interval", 60.0)
        self._timeout_s = general.duration_s("scrape_timeout", min(10.0, self._interval_s))
        if self._timeout_s > self._interval_s:
            general.fault("scrape_timeout", f"{self._timeout_s:g} s; at most the interval, {self._interval_s:g} s")

    def read(self, top: Fields) -> Iterator[Job]:
        lines: dict[str, int] = {}
        for fields in top.each("scrape_configs", JOB_KEYS):
            name = fields.text("job_name")
            if not name:
                fields.fault("job_name", "is absent; a scrape configuration needs one")
            elif name in lines:
                fields.fault("job_name", f'"{name}"; it is already on line {lines[name]}')
            lines.setdefault(name, fields.at("job_name").line)
            yield self._job(fields, name)

    def _job(self, fields: Fields, name: str) -> Job:
        interval_s = fields.duration_s("scrape_interval", self._interval_s)
        timeout_s = fields.duration_s("scrape_timeout", min(self._timeout_s, interval_s))
        if timeout_s > interval_s:
            fields.fault("scrape_timeout", f"{timeout_s:g} s; at most the interval, {interval_s:g} s")
        job = Job(
            name=name,
            interval_s=interval_s,
            timeout_s=timeout_s,
            path=fields.read("metrics_path", "/metrics", _path),
            scheme=fields.read("scheme", "http", _scheme),
            params=tuple(_params(fields)),
            honor_labels=fields.boolean("honor_labels", False),
            honor_timestamps=fields.boolean("honor_timestamps", True),
            limits=_limits(fields),
            target_limit=fields.count("target_limit"),
            relabel=read_rules(fields, "relabel_configs"),
            metric_relabel=read_rules(fields, "metric_relabel_configs"),
            access=read_access(fields, self._folder),
        )
        files = [read_file_source(one, self._folder) for one in fields.each("file_sd_configs", FILE_KEYS)]
        pages = [read_http_source(one, self._folder) for one in fields.each("http_sd_configs", HTTP_KEYS)]
        return replace(job, groups=tuple(_static(fields, job)), sources=(*files, *pages))


def _static(fields: Fields, job: Job) -> Iterator[TargetGroup]:
    """Groups of ``static_configs``; an address that makes no target is a fault where it stands."""
    for place, static in enumerate(fields.each("static_configs", STATIC_KEYS)):
        labels = tuple(static.labels("labels").items())
        addresses = static.texts("targets")
        for node, address in zip(static.items("targets"), addresses, strict=True):
            if "/" in address or not address:
                static.faults.add(node, f'targets: "{address}"; a target is HOST:PORT, without scheme and path')
                continue
            group = TargetGroup((address,), labels)
            for fault in find_targets(job, (group,)).faults if job.name else ():
                static.faults.add(node, f"targets: {fault}")
        yield TargetGroup(addresses, labels, str(place))


def _limits(fields: Fields) -> ScrapeLimits:
    usual = ScrapeLimits()
    return ScrapeLimits(
        body_bytes=fields.size_bytes("body_size_limit") or usual.body_bytes,
        samples=fields.count("sample_limit") or usual.samples,
        labels=fields.count("label_limit"),
        label_name_length=fields.count("label_name_length_limit"),
        label_value_length=fields.count("label_value_length_limit"),
    )


def _params(fields: Fields) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, node in fields.pairs("params"):
        items = node.value if isinstance(node.value, list) else None
        if items is None or any(isinstance(item.value, dict | list) for item in items):
            fields.faults.add(node, f"params: {name.text} is {node.shown()}; it is a list of texts")
        else:
            yield name.text, tuple(item.text for item in items)


def _without_secrets(text: str) -> str:
    document = yaml.safe_load(text)
    _hide(document, set())
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True) if document else ""


def _hide(value: Any, seen: set[int]) -> None:
    """Blot out secrets in place; what aliases share is visited once."""
    if not isinstance(value, list | dict) or id(value) in seen:
        return
    seen.add(id(value))
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if key in SECRETS and item:
            value[key] = "<secret>"
        elif key in ADDRESSES and isinstance(item, str):
            value[key] = without_user(item)
        else:
            _hide(item, seen)


def _scheme(text: str) -> str:
    if text not in ("http", "https"):
        raise ValueError("it may be http or https")
    return text


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("a path begins with /")
    return text
