"""Where to pass on what was received: addresses of the options, and a file for all that an option cannot say.

remote_write:
  - url: http://127.0.0.1:8428/api/v1/write
    bearer_token_file: /etc/loadline/token
    max_samples_per_send: 2000
    queue_bytes: 512MB
    queue_age: 1d
    write_relabel_configs:
      - {source_labels: [__name__], regex: "go_.*", action: drop}
otlp:
  - url: http://127.0.0.1:4318
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from collector.forward.queue import MAX_AGE_S, MAX_BYTES
from collector.forward.remote_write import MAX_SAMPLES
from collector.model.errors import ConfigError
from collector.scrape.document import Faults, Fields
from collector.scrape.relabel import Rule, read_rules
from collector.signals.document import parse_document
from collector.signals.errors import DocumentError

COMMON_KEYS = ("url", "bearer_token_file", "queue_bytes", "queue_age")
REMOTE_WRITE_KEYS = (*COMMON_KEYS, "max_samples_per_send", "write_relabel_configs")


@dataclass(frozen=True, slots=True)
class Destination:
    """One receiver; the queue's limits hold for what it has not taken yet.

    ``url`` is that of remote write, such as ``http://127.0.0.1:8428/api/v1/write``, or OTLP's base, such as
    ``http://127.0.0.1:4318``; ``max_samples`` and ``rules`` are for remote write.
    """

    url: str
    token_file: Path | None = None
    queue_bytes: int = MAX_BYTES
    queue_age_s: float = MAX_AGE_S
    max_samples: int = MAX_SAMPLES
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class ForwardSettings:
    """Receivers by protocol."""

    remote_write: tuple[Destination, ...] = ()
    otlp: tuple[Destination, ...] = ()


def forward_settings(
    remote_write: Sequence[str] = (),
    otlp: Sequence[str] = (),
    token_file: Path | None = None,
    file: Path | None = None,
) -> ForwardSettings:
    """Receivers of the options and of the file; ConfigError where one cannot be used or is given twice."""
    read = ForwardSettings() if file is None else read_forward_file(file)
    made = ForwardSettings(
        (*(Destination(_option(url), token_file) for url in remote_write), *read.remote_write),
        (*(Destination(_option(url), token_file) for url in otlp), *read.otlp),
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
    read = ForwardSettings(
        tuple(_destinations(fields, "remote_write", REMOTE_WRITE_KEYS)),
        tuple(_destinations(fields, "otlp", COMMON_KEYS)),
    )
    if faults.lines:
        raise ConfigError("\n".join(faults.lines))
    return read


def without_user(url: str) -> str:
    """An address without user and password."""
    return str(httpx.URL(url).copy_with(userinfo=b""))


def _destinations(fields: Fields, key: str, allowed: Sequence[str]) -> Iterator[Destination]:
    for one in fields.each(key, allowed):
        if "url" not in one:
            one.fault("url", "is absent; it is where to send")
        token_file = one.text("bearer_token_file")
        yield Destination(
            one.read("url", "", _checked),
            Path(token_file) if token_file else None,
            one.size_bytes("queue_bytes") or MAX_BYTES,
            one.duration_s("queue_age", MAX_AGE_S),
            one.count("max_samples_per_send") or MAX_SAMPLES,
            read_rules(one, "write_relabel_configs") if "write_relabel_configs" in allowed else (),
        )


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
