"""A scrape target: where it is, how often it is asked, and which labels its series get."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from collector.model.errors import ConfigError
from collector.model.labels import Labels, from_mapping

DEFAULT_JOB = "scrape"
MAX_BODY_BYTES = 32 << 20
MAX_SERIES = 100_000


@dataclass(frozen=True, slots=True)
class Target:
    """One address to scrape.

    ``labels`` are attached to every series and hold ``job`` and ``instance``. A series that already has one of them
    keeps its own as ``exported_NAME``, or, with ``honor_labels``, wins.
    """

    url: str
    labels: Labels
    interval_s: float = 5.0
    timeout_s: float = 5.0
    honor_labels: bool = False
    max_body_bytes: int = MAX_BODY_BYTES
    max_series: int = MAX_SERIES

    @property
    def job(self) -> str:
        """Name of the group of targets that this one belongs to."""
        return dict(self.labels)["job"]

    @property
    def key(self) -> str:
        """Name of the target's scrape group in the store."""
        return f"scrape {self.job} {self.url}"

    @property
    def offset_s(self) -> float:
        """Where in its interval the target is scraped: spread by hash, the same at every start."""
        digest = hashlib.blake2b(self.key.encode(), digest_size=8).digest()
        return int.from_bytes(digest) / 2**64 * self.interval_s

    def finish(self, labels: Labels) -> Labels:
        """A scraped label set with the target's labels attached."""
        own = dict(labels)
        for name, value in self.labels:
            if name not in own:
                own[name] = value
            elif not self.honor_labels:
                exported = f"exported_{name}"
                while exported in own:
                    exported = f"exported_{exported}"
                own[exported], own[name] = own[name], value
        return from_mapping(own)


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
    return Target(url, attached, interval_s, min(timeout_s, interval_s), honor_labels)


def parse_target(text: str, *, interval_s: float, timeout_s: float) -> Target:
    """Read ``URL[,job=NAME][,label=value…]``; a URL without a path means ``/metrics``."""
    url, *rest = text.split(",")
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
