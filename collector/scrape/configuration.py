"""Read the scraping part of a ``prometheus.yml``.

Understood: ``global.scrape_interval``, ``global.scrape_timeout`` and of each of ``scrape_configs`` the keys in
``JOB_KEYS``. Anything else is an error with file, line and column, never passed over in silence.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import yaml

from collector.model.errors import ConfigError, QueryError
from collector.promql.durations import parse_duration_ms
from collector.scrape.target import Target, make_target

TOP_KEYS = ("global", "scrape_configs")
GLOBAL_KEYS = ("scrape_interval", "scrape_timeout")
JOB_KEYS = (
    "job_name",
    "static_configs",
    "metrics_path",
    "scheme",
    "scrape_interval",
    "scrape_timeout",
    "honor_labels",
)
STATIC_KEYS = ("targets", "labels")

Value = TypeVar("Value")
Fields = dict[str, yaml.Node]


def read_prometheus_yml(path: Path) -> tuple[Target, ...]:
    """Targets of the file at ``path``; ConfigError with one ``file:line:column: fault`` per line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse_prometheus_yml(text, str(path))


def parse_prometheus_yml(text: str, name: str) -> tuple[Target, ...]:
    """As ``read_prometheus_yml``; ``name`` stands for the file in errors."""
    reader = _Reader(name)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise ConfigError(f"{place}: not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not YAML: {error}") from error
    targets = tuple(reader.document(root)) if root is not None else ()
    if reader.faults:
        raise ConfigError("\n".join(reader.faults))
    return targets


class _Reader:
    """Walks the tree of nodes, gathering faults with their places."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.faults: list[str] = []

    def document(self, root: yaml.Node) -> Iterator[Target]:
        top = self._fields(root, "the file", TOP_KEYS)
        general = self._fields(top["global"], "global", GLOBAL_KEYS) if "global" in top else {}
        interval_s = self._read(general, "scrape_interval", 60.0, _duration_s)
        timeout_s = self._read(general, "scrape_timeout", min(10.0, interval_s), _duration_s)
        seen: dict[str, yaml.Node] = {}
        for job in self._items(top.get("scrape_configs"), "scrape_configs"):
            yield from self._job(job, interval_s, timeout_s, seen)

    def _job(
        self, node: yaml.Node, interval_s: float, timeout_s: float, seen: dict[str, yaml.Node]
    ) -> Iterator[Target]:
        fields = self._fields(node, "scrape_configs", JOB_KEYS)
        name = self._read(fields, "job_name", "", _text)
        if not name:
            self._fault(node, "a scrape configuration needs a job_name")
        elif name in seen:
            self._fault(fields["job_name"], f'job_name "{name}" is already on line {seen[name].start_mark.line + 1}')
        else:
            seen[name] = fields["job_name"]
        interval_s = self._read(fields, "scrape_interval", interval_s, _duration_s)
        timeout_s = self._read(fields, "scrape_timeout", min(timeout_s, interval_s), _duration_s)
        if timeout_s > interval_s:
            self._fault(fields["scrape_timeout"], f"scrape_timeout is longer than the interval of {interval_s:g} s")
        scheme = self._read(fields, "scheme", "http", _scheme)
        path = self._read(fields, "metrics_path", "/metrics", _path)
        honor_labels = self._read(fields, "honor_labels", False, _boolean)
        for static in self._items(fields.get("static_configs"), "static_configs"):
            parts = self._fields(static, "static_configs", STATIC_KEYS)
            labels = self._labels(parts.get("labels"))
            for item in self._items(parts.get("targets"), "targets"):
                address = self._convert(item, "target", "", _address)
                if address:
                    yield make_target(
                        f"{scheme}://{address}{path}",
                        name,
                        {"instance": address, **labels},
                        interval_s=interval_s,
                        timeout_s=timeout_s,
                        honor_labels=honor_labels,
                    )

    def _labels(self, node: yaml.Node | None) -> dict[str, str]:
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            self._fault(node, "labels should map names to values")
            return {}
        return {
            self._convert(key, "label name", "", _text): self._convert(value, "label value", "", _text)
            for key, value in node.value
        }

    def _fields(self, node: yaml.Node, subject: str, allowed: tuple[str, ...]) -> Fields:
        if not isinstance(node, yaml.MappingNode):
            self._fault(node, f"{subject} should be a mapping of {', '.join(allowed)}")
            return {}
        fields: Fields = {}
        for key, value in node.value:
            if key.value not in allowed:
                self._fault(key, f'{subject}: "{key.value}" is not understood; what is: {", ".join(allowed)}')
            elif key.value in fields:
                self._fault(key, f'{subject}: "{key.value}" is given twice')
            else:
                fields[key.value] = value
        return fields

    def _items(self, node: yaml.Node | None, subject: str) -> list[yaml.Node]:
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self._fault(node, f"{subject} should be a list")
            return []
        return list(node.value)

    def _read(self, fields: Fields, key: str, default: Value, reader: Callable[[str], Value]) -> Value:
        return self._convert(fields[key], key, default, reader) if key in fields else default

    def _convert(self, node: yaml.Node, subject: str, default: Value, reader: Callable[[str], Value]) -> Value:
        if not isinstance(node, yaml.ScalarNode):
            self._fault(node, f"{subject} should be one value")
            return default
        try:
            return reader(node.value)
        except ValueError as error:
            self._fault(node, f'{subject} is "{node.value}"; {error}')
            return default

    def _fault(self, node: yaml.Node, message: str) -> None:
        mark = node.start_mark
        self.faults.append(f"{self._name}:{mark.line + 1}:{mark.column + 1}: {message}")


def _text(value: str) -> str:
    return value


def _duration_s(value: str) -> float:
    try:
        duration_ms = parse_duration_ms(value)
    except QueryError as error:
        raise ValueError("a duration looks like 5s or 1m30s") from error
    if duration_ms <= 0:
        raise ValueError("it should be longer than nothing")
    return duration_ms / 1000


def _scheme(value: str) -> str:
    if value not in ("http", "https"):
        raise ValueError("it may be http or https")
    return value


def _path(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError("a path begins with /")
    return value


def _boolean(value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise ValueError("it may be true or false")
    return value.lower() == "true"


def _address(value: str) -> str:
    if not value or "/" in value or " " in value:
        raise ValueError("a target is HOST:PORT, without scheme and path")
    try:
        make_target(f"http://{value}", "check")
    except ConfigError as error:
        raise ValueError("a target is HOST:PORT, such as 10.0.0.1:8000") from error
    return value
