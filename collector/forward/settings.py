"""Where to pass on what was received: addresses of the options, and a file for all that an option cannot say.

remote_write:
  - url: http://127.0.0.1:8428/api/v1/write
    bearer_token_file: /etc/loadline/token     # or basic_auth, authorization, oauth2; tls_config, proxy_url
    remote_timeout: 30s
    headers: {X-Scope-OrgID: team}
    protobuf_message: io.prometheus.write.v2.Request     # remote write 2.0; 1.0 without it
    max_samples_per_send: 2000
    send_exemplars: true
    metadata_config: {send: true, send_interval: 1m, max_samples_per_send: 2000}
    queue_config: {batch_send_deadline: 1s, min_backoff: 100ms, max_backoff: 5s, retry_on_http_429: true}
    queue_bytes: 512MB
    queue_age: 1d
    write_relabel_configs:
      - {source_labels: [__name__], regex: "go_.*", action: drop}
otlp:
  - url: http://127.0.0.1:4318

``remote_write`` may stand in ``prometheus.yml`` as well, with Prometheus's keys. Those of a queue in memory and of
several senders do nothing here, which is remarked: one sender takes from a queue on disk, in order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from collector.forward.queue import MAX_AGE_S, MAX_BYTES
from collector.forward.remote_write import MAX_SAMPLES, MESSAGE_1, Describing
from collector.forward.retry import RETRIED, Patience
from collector.forward.sender import FLUSH_S, TIMEOUT_S
from collector.model.errors import ConfigError
from collector.model.remote_write_2 import MESSAGE as MESSAGE_2
from collector.scrape.access import KEYS as ACCESS_KEYS
from collector.scrape.access import OPEN, Access, Credentials, read_access
from collector.scrape.document import Faults, Fields
from collector.scrape.relabel import Rule, read_rules
from collector.scrape.secret import Secret
from collector.signals.document import parse_document
from collector.signals.errors import DocumentError

COMMON_KEYS = ("url", "name", "remote_timeout", "headers", "queue_bytes", "queue_age", *ACCESS_KEYS)
REMOTE_WRITE_KEYS = (
    *COMMON_KEYS,
    "max_samples_per_send",
    "write_relabel_configs",
    "protobuf_message",
    "send_exemplars",
    "metadata_config",
    "queue_config",
)
PROMETHEUS_KEYS = ("send_native_histograms", "enable_http2")
"""Further keys of Prometheus's ``remote_write``."""

QUEUE_KEYS = (
    "max_samples_per_send",
    "batch_send_deadline",
    "min_backoff",
    "max_backoff",
    "retry_on_http_429",
    "sample_age_limit",
)
UNUSED_QUEUE_KEYS = ("capacity", "max_shards", "min_shards")
METADATA_KEYS = ("send", "send_interval", "max_samples_per_send")
MESSAGES = (MESSAGE_1, MESSAGE_2)
"""Remote write 1.0 and 2.0."""


@dataclass(frozen=True, slots=True)
class Destination:
    """One receiver; the queue's limits hold for what it has not taken yet.

    ``url`` is that of remote write, such as ``http://127.0.0.1:8428/api/v1/write``, or OTLP's base, such as
    ``http://127.0.0.1:4318``; ``max_samples``, ``rules``, ``exemplars`` and ``metadata`` are for remote write.
    """

    url: str
    access: Access = OPEN
    queue_bytes: int = MAX_BYTES
    queue_age_s: float = MAX_AGE_S
    max_samples: int = MAX_SAMPLES
    rules: tuple[Rule, ...] = ()
    name: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    timeout_s: float = TIMEOUT_S
    flush_s: float | None = None
    message: str = MESSAGE_1
    exemplars: bool = False
    metadata: Describing = Describing()
    patience: Patience = Patience()


@dataclass(frozen=True, slots=True)
class ForwardSettings:
    """Receivers by protocol."""

    remote_write: tuple[Destination, ...] = ()
    otlp: tuple[Destination, ...] = ()
    remarks: tuple[str, ...] = ()


def forward_settings(
    remote_write: Sequence[str] = (),
    otlp: Sequence[str] = (),
    token_file: Path | None = None,
    file: Path | None = None,
    listed: Sequence[Destination] = (),
) -> ForwardSettings:
    """Receivers of the options, of the file and those ``listed`` in prometheus.yml.

    ConfigError where one cannot be used or is given twice.
    """
    read = ForwardSettings() if file is None else read_forward_file(file)
    access = OPEN if token_file is None else Access(Credentials("Bearer", Secret(file=token_file)))
    made = ForwardSettings(
        (*(Destination(_option(url), access) for url in remote_write), *read.remote_write, *listed),
        (*(Destination(_option(url), access) for url in otlp), *read.otlp),
        read.remarks,
    )
    urls = [to.url for to in (*made.remote_write, *made.otlp)]
    for url in urls:
        if urls.count(url) > 1:
            raise ConfigError(f"forward: {without_user(url)} is given {urls.count(url)} times")
    return made


def read_forward_file(path: Path) -> ForwardSettings:
    """The file at ``path``; ConfigError with one ``file:line:column: key: fault`` per line."""
    try:
        node = parse_document(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except DocumentError as error:
        raise ConfigError(str(error)) from error
    faults = Faults()
    fields = Fields(node, "forward", ("remote_write", "otlp"), faults)
    folder = path.parent.absolute()
    read = ForwardSettings(
        tuple(_destination(one, folder) for one in fields.each("remote_write", REMOTE_WRITE_KEYS)),
        tuple(_destination(one, folder) for one in fields.each("otlp", COMMON_KEYS)),
    )
    if faults.lines:
        raise ConfigError("\n".join(faults.lines))
    return replace(read, remarks=tuple(faults.remarks))


def without_user(url: str) -> str:
    """An address without user and password."""
    return str(httpx.URL(url).copy_with(userinfo=b""))


def read_remote_write(fields: Fields, folder: Path) -> tuple[Destination, ...]:
    """``remote_write`` of a prometheus.yml; relative paths begin at ``folder``."""
    allowed = (*REMOTE_WRITE_KEYS, *PROMETHEUS_KEYS)
    return tuple(_destination(one, folder) for one in fields.each("remote_write", allowed))


def _destination(fields: Fields, folder: Path) -> Destination:
    if "url" not in fields:
        fields.fault("url", "is absent; it is where to send")
    if fields.boolean("send_native_histograms", False):
        fields.fault("send_native_histograms", "true; native histograms are not kept, so none are passed on")
    if fields.boolean("enable_http2", False):
        fields.faults.remark(fields.at("enable_http2"), "enable_http2: does nothing; HTTP/1.1 is spoken")
    message = fields.text("protobuf_message", MESSAGE_1)
    if message not in MESSAGES:
        fields.fault("protobuf_message", f'"{message}"; it may be {" or ".join(MESSAGES)}')
    queue = fields.within("queue_config", (*QUEUE_KEYS, *UNUSED_QUEUE_KEYS))
    for key in UNUSED_QUEUE_KEYS:
        if queue and queue.count(key):
            queue.faults.remark(queue.at(key), f"queue_config: {key} does nothing; one sender takes from disk")
    in_queue = queue.count("max_samples_per_send") if queue else None
    return Destination(
        fields.read("url", "", _checked),
        read_access(fields, folder),
        fields.size_bytes("queue_bytes") or MAX_BYTES,
        fields.duration_s("queue_age", queue.duration_s("sample_age_limit", MAX_AGE_S) if queue else MAX_AGE_S),
        fields.count("max_samples_per_send") or in_queue or MAX_SAMPLES,
        read_rules(fields, "write_relabel_configs"),
        fields.text("name"),
        tuple(fields.named("headers").items()),
        fields.duration_s("remote_timeout", TIMEOUT_S),
        queue.duration_s("batch_send_deadline", FLUSH_S) if queue and "batch_send_deadline" in queue else None,
        message,
        fields.boolean("send_exemplars", False),
        _describing(fields),
        _patience(queue) if queue else Patience(),
    )


def _describing(fields: Fields) -> Describing:
    within = fields.within("metadata_config", METADATA_KEYS)
    if within is None:
        return Describing()
    usual = Describing()
    return Describing(
        within.boolean("send", usual.send),
        within.duration_s("send_interval", usual.every_s),
        within.count("max_samples_per_send") or usual.max_families,
    )


def _patience(queue: Fields) -> Patience:
    usual = Patience()
    first_s = queue.duration_s("min_backoff", usual.first_delay_s)
    longest_s = queue.duration_s("max_backoff", max(first_s, usual.longest_delay_s))
    if longest_s < first_s:
        queue.fault("max_backoff", f"{longest_s:g} s; at least min_backoff, {first_s:g} s")
    retried = RETRIED if queue.boolean("retry_on_http_429", True) else RETRIED - {429}
    return Patience(first_s, longest_s, retried)


def _option(url: str) -> str:
    try:
        return _checked(url)
    except ValueError as error:
        raise ConfigError(f"forward: {url!r} is no address; {error}") from error


def _checked(text: str) -> str:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(f"an address: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("an address looks like http://127.0.0.1:8428/api/v1/write")
    return text
