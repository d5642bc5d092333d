"""A scrape target: where it is, how it is asked, and which labels its series get."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from collector.model.errors import ConfigError
from collector.model.labels import Labels, from_mapping, render
from collector.scrape.access import OPEN, Access
from collector.scrape.relabel import Rule, relabel

DEFAULT_JOB = "scrape"

_NO_SCHEME = re.compile(r"(?!https?://)(?:[^/?#]*:/|[^/]*//)")
"""What is neither ``http://…`` nor ``host:port/…``: a slash right after a colon, or two slashes."""


@dataclass(frozen=True, slots=True)
class ScrapeLimits:
    """What one page may hold; a page beyond a limit is refused whole. None stands for no limit.

    ``body_bytes`` uncompressed; ``samples`` after relabelling; ``labels`` of one series with the target's own; the
    lengths in characters.
    """

    body_bytes: int = 32 << 20
    samples: int = 100_000
    labels: int | None = None
    label_name_length: int | None = None
    label_value_length: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One address to scrape.

    ``labels`` are attached to every series and hold ``instance`` and, unless relabelling took it away, ``job``. A
    series that already has one of them keeps its own as ``exported_NAME``, or, with ``honor_labels``, wins.
    ``pool`` is the job of the configuration that the target belongs to, ``discovered`` its labels before relabelling.
    """

    url: str
    labels: Labels
    interval_s: float = 5.0
    timeout_s: float = 5.0
    honor_labels: bool = False
    honor_timestamps: bool = True
    limits: ScrapeLimits = ScrapeLimits()
    metric_relabel: tuple[Rule, ...] = ()
    access: Access = OPEN
    pool: str = ""
    discovered: Labels = ()
    refusal: str = ""
    """Why every scrape fails, such as a ``target_limit``; empty where none does."""

    @property
    def job(self) -> str:
        """Name of the group of targets that this one belongs to."""
        return self.pool or dict(self.labels).get("job", "")

    @property
    def key(self) -> str:
        """Name of the target's scrape group in the store."""
        return f"scrape {self.job} {self.url} {render(self.labels)}"

    @property
    def offset_s(self) -> float:
        """Where in its interval the target is scraped: spread by hash, the same at every start."""
        digest = hashlib.blake2b(self.key.encode(), digest_size=8).digest()
        return int.from_bytes(digest) / 2**64 * self.interval_s

    def finish(self, labels: Labels) -> Labels | None:
        """A scraped label set with the target's labels attached, relabelled; None where that drops it.

        A label that the page gives an empty value keeps the target's away under ``honor_labels``.
        """
        own = dict(labels)
        renamed: list[tuple[str, str]] = []
        for name, value in self.labels:
            if self.honor_labels:
                own.setdefault(name, value)
                continue
            if own.get(name):
                renamed.append((name, own[name]))
            own[name] = value
        for name, value in sorted(renamed, key=lambda pair: len(pair[0])):
            exported = f"exported_{name}"
            while own.get(exported):
                exported = f"exported_{exported}"
            own[exported] = value
        if not self.metric_relabel:
            return from_mapping(own)
        changed = relabel(own, self.metric_relabel)
        return from_mapping(changed) if changed else None


def make_target(
    url: str,
    job: str,
    labels: Mapping[str, str] | None = None,
    *,
    interval_s: float = 5.0,
    timeout_s: float = 5.0,
    honor_labels: bool = False,
) -> Target:
    """A target whose ``instance`` is the address's host and port; ConfigError where ``url`` is no HTTP address."""
    parts, port = _split(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f'scrape address "{url}": one looks like http://host:port/metrics')
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    instance = f"{host}:{port or (443 if parts.scheme == 'https' else 80)}"
    attached = from_mapping({"instance": instance, **(labels or {}), "job": job})
    discovered = {"__address__": instance, "__scheme__": parts.scheme, "__metrics_path__": parts.path or "/"}
    return Target(
        url,
        attached,
        interval_s,
        min(timeout_s, interval_s),
        honor_labels,
        pool=job,
        discovered=from_mapping(discovered | dict(labels or {}) | {"job": job}),
    )


def parse_target(text: str, *, interval_s: float, timeout_s: float) -> Target:
    """Read ``URL[,job=NAME][,label=value…]``; a URL without a path means ``/metrics``."""
    url, *rest = text.split(",")
    if _NO_SCHEME.match(url):
        raise ConfigError(f'scrape target "{text}": one looks like http://host:port/metrics, or host:port')
    if "://" not in url:
        url = f"http://{url}"
    if _split(url)[0].path in ("", "/"):
        url = url.rstrip("/") + "/metrics"
    labels = {}
    for part in rest:
        name, equals, value = part.partition("=")
        if not name or not equals:
            raise ConfigError(f'scrape target "{text}": "{part}" should be label=value; one looks like URL,job=engine')
        labels[name.strip()] = value.strip()
    job = labels.pop("job", DEFAULT_JOB)
    return make_target(url, job, labels, interval_s=interval_s, timeout_s=timeout_s)


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError as error:
        raise ConfigError(f'scrape address "{url}": {error}') from error
