"""Find targets that the configuration does not list: in files that change, and behind an HTTP address.

A file or address that cannot be read keeps what it last gave, and the trouble is said once.
"""

import asyncio
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import orjson

from collector.model.errors import CollectorError, ConfigError
from collector.model.labels import Labels
from collector.scrape.access import KEYS as ACCESS_KEYS
from collector.scrape.access import Access, Clients, read_access
from collector.scrape.body import HEADERS, read_body
from collector.scrape.document import Faults, Fields
from collector.signals.document import parse_document
from collector.signals.errors import DocumentError

FILE_KEYS = ("files", "refresh_interval")
HTTP_KEYS = ("url", "refresh_interval", *ACCESS_KEYS)
GROUP_KEYS = ("targets", "labels")
LOOK_INTERVAL_S = 5.0
"""Files are looked at this often, and read again where they changed."""

ANSWER_TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 16 << 20

_PATTERN = re.compile(r"[^*]*(?:\*[^/]*)?\.(?:json|yml|yaml|JSON|YML|YAML)")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """Addresses that have labels in common; ``source`` is the file or address that named them."""

    targets: tuple[str, ...]
    labels: Labels = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class FileSource:
    """``file_sd_configs``: patterns, with ``*`` in their last part only.

    Files are read again at ``refresh_s`` even where they look the same.
    """

    patterns: tuple[Path, ...]
    refresh_s: float = 300.0


@dataclass(frozen=True, slots=True)
class HttpSource:
    """``http_sd_configs``."""

    url: str
    access: Access
    refresh_s: float = 60.0


class Finder(Protocol):
    """Whatever finds targets; ``look_s`` is how often it should be asked."""

    look_s: float

    async def find(self) -> tuple[TargetGroup, ...]:
        """All groups now."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


def finder(source: FileSource | HttpSource, clients: Clients) -> Finder:
    """The finder for a source."""
    if isinstance(source, FileSource):
        return FileFinder(source)
    return HttpFinder(source, clients.open(source.access))


class FileFinder:
    """Reads target files; one that is gone gives nothing, one that is broken what it last gave."""

    def __init__(self, source: FileSource) -> None:
        self.look_s = min(LOOK_INTERVAL_S, source.refresh_s)
        self._source = source
        self._known: dict[str, tuple[TargetGroup, ...]] = {}
        self._stamps: dict[str, tuple[int, int]] = {}
        self._looks = 0
        self._trouble: dict[str, str] = {}

    async def find(self) -> tuple[TargetGroup, ...]:
        """Groups of all files that fit the patterns now."""
        return await asyncio.to_thread(self.read)

    async def aclose(self) -> None:
        """There is nothing to let go of."""

    def read(self) -> tuple[TargetGroup, ...]:
        """As ``find``, at once."""
        if self._looks * self.look_s >= self._source.refresh_s:
            self._stamps.clear()
            self._looks = 0
        self._looks += 1
        paths = {str(path) for pattern in self._source.patterns for path in pattern.parent.glob(pattern.name)}
        for gone in self._known.keys() - paths:
            del self._known[gone]
            self._stamps.pop(gone, None)
        for path in sorted(paths):
            self._read_changed(path)
        return tuple(group for path in sorted(self._known) for group in self._known[path])

    def _read_changed(self, path: str) -> None:
        try:
            status = Path(path).stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if self._stamps.get(path) == stamp:
                return
            self._stamps[path] = stamp
            self._known[path] = read_target_file(Path(path))
            self._tell(path, "")
        except (OSError, CollectorError) as error:
            self._tell(path, str(error))

    def _tell(self, path: str, trouble: str) -> None:
        if trouble and self._trouble.get(path) != trouble:
            _log.warning("file discovery: %s; its last targets stay", trouble)
        self._trouble[path] = trouble


class HttpFinder:
    """Asks an address for targets; while it does not answer, what it last gave stays."""

    def __init__(self, source: HttpSource, http: httpx.AsyncClient) -> None:
        self.look_s = source.refresh_s
        self._source = source
        self._http = http
        self._known: tuple[TargetGroup, ...] = ()
        self._trouble = ""

    async def find(self) -> tuple[TargetGroup, ...]:
        """Groups that the address names now."""
        try:
            self._known = parse_groups(await self._ask(), self._source.url, {"__meta_url": self._source.url})
            trouble = ""
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            trouble = f"{self._source.url}: cannot be reached: {str(error) or type(error).__name__}"
        except ConfigError as error:
            trouble = str(error)
        if trouble and trouble != self._trouble:
            _log.warning("HTTP discovery: %s; its last targets stay", trouble)
        self._trouble = trouble
        return self._known

    async def aclose(self) -> None:
        """Close the connection."""
        await self._http.aclose()

    async def _ask(self) -> bytes:
        access = self._source.access
        url = self._source.url
        headers = HEADERS | {
            "Accept": "application/json",
            "X-Prometheus-Refresh-Interval-Seconds": f"{self._source.refresh_s:g}",
        }
        asked = self._http.stream(
            "GET",
            url,
            headers=headers | access.headers(),
            follow_redirects=access.follow_redirects,
            extensions=access.extensions(),
            timeout=ANSWER_TIMEOUT_S,
        )
        async with asked as answer:
            if answer.status_code != 200:
                raise ConfigError(f"{url}: answered {answer.status_code} {answer.reason_phrase}")
            if answer.headers.get("content-type", "").split(";")[0].strip() != "application/json":
                raise ConfigError(f"{url}: content type is not application/json")
            beyond = f"the answer is longer than {MAX_ANSWER_BYTES} bytes"
            try:
                return await read_body(answer, MAX_ANSWER_BYTES, beyond)
            except ConfigError as error:
                raise ConfigError(f"{url}: {error}") from error


def read_target_file(path: Path) -> tuple[TargetGroup, ...]:
    """Target groups of one JSON or YAML file; ConfigError with the place of what is wrong."""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    labels = {"__meta_filepath": str(path)}
    if path.suffix.lower() == ".json":
        return parse_groups(body, str(path), labels)
    try:
        root = parse_document(body.decode(), str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8") from error
    except DocumentError as error:
        raise ConfigError(str(error)) from error
    faults = Faults()
    wrapped = Fields(root, "groups", (), faults) if isinstance(root.value, dict) else None
    groups = [] if wrapped else list(_yaml_groups(root.value or [], faults, labels, str(path)))
    if wrapped and not faults.lines:
        faults.add(root, "the file: a mapping; it is a list of target groups")
    if faults.lines:
        raise ConfigError("; ".join(faults.lines))
    return tuple(groups)


def _yaml_groups(items: Any, faults: Faults, labels: Mapping[str, str], source: str) -> Iterator[TargetGroup]:
    if not isinstance(items, list):
        raise ConfigError(f"{source}: is no list of target groups")
    for place, item in enumerate(items):
        fields = Fields(item, "target group", GROUP_KEYS, faults)
        own = {**labels, **fields.labels("labels")}
        yield TargetGroup(fields.texts("targets"), tuple(own.items()), f"{source}:{place}")


def parse_groups(body: bytes, source: str, labels: Mapping[str, str]) -> tuple[TargetGroup, ...]:
    """Target groups in JSON, each with ``labels`` beside its own; ConfigError naming what is wrong."""
    try:
        items = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{source}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from error
    if not isinstance(items, list):
        raise ConfigError(f"{source}: is no list of target groups")
    return tuple(_json_group(item, f"{source}[{place}]", labels) for place, item in enumerate(items))


def _json_group(item: Any, source: str, labels: Mapping[str, str]) -> TargetGroup:
    if not isinstance(item, dict):
        raise ConfigError(f"{source}: is no mapping; allowed: {', '.join(GROUP_KEYS)}")
    for key in item:
        if key not in GROUP_KEYS:
            raise ConfigError(f'{source}: "{key}" is not understood; allowed: {", ".join(GROUP_KEYS)}')
    targets, own = item.get("targets") or [], item.get("labels") or {}
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        raise ConfigError(f"{source}.targets: it is a list of texts")
    if not isinstance(own, dict) or not all(isinstance(value, str) for value in own.values()):
        raise ConfigError(f"{source}.labels: it is a mapping of names to texts")
    return TargetGroup(tuple(targets), tuple((dict(labels) | own).items()), source)


def read_file_source(fields: Fields, folder: Path) -> FileSource:
    """An entry of ``file_sd_configs``; relative patterns begin at ``folder``."""
    patterns = fields.texts("files")
    if not patterns:
        fields.fault("files", "are absent; file discovery needs some")
    for node, pattern in zip(fields.items("files"), patterns, strict=True):
        if not _PATTERN.fullmatch(pattern):
            fields.faults.add(node, f'files: "{pattern}"; a path ends in .json, .yml or .yaml, with * in the name only')
    return FileSource(tuple(folder / one for one in patterns), fields.duration_s("refresh_interval", 300.0))


def read_http_source(fields: Fields, folder: Path) -> HttpSource:
    """An entry of ``http_sd_configs``."""
    url = fields.read("url", "", _address)
    if "url" not in fields:
        fields.fault("url", "is absent; HTTP discovery needs one")
    return HttpSource(url, read_access(fields, folder), fields.duration_s("refresh_interval", 60.0))


def _address(text: str) -> str:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(str(error)) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("an address looks like http://host:port/targets")
    return text
