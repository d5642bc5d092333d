"""Tell whether a file is a metrics page or a ``prometheus.yml`` that the collector can read."""

from dataclasses import dataclass
from pathlib import Path

from collector.model.errors import ConfigError
from collector.model.exposition import ScrapeParser
from collector.scrape.configuration import parse_configuration

YAML_ENDINGS = (".yml", ".yaml")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found: ``faults`` are lines ``file:line: reason``, none where the file is well."""

    file: Path
    kind: str
    summary: str
    faults: tuple[str, ...]


def check_file(path: Path) -> Verdict:
    """Read ``path``, by its ending as configuration or as a metrics page; ConfigError where it is not there."""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    return _check_yaml(path, body) if path.suffix in YAML_ENDINGS else _check_page(path, body)


def _check_page(path: Path, body: bytes) -> Verdict:
    is_openmetrics = body.rstrip(b"\n").endswith(b"# EOF")
    page = ScrapeParser().parse(body, "application/openmetrics-text" if is_openmetrics else "text/plain")
    faults = [f"{path}:{error.line}: {error.reason}: {error.text}" for error in page.errors]
    if page.bad_lines > len(faults):
        faults.append(f"{path}: and {page.bad_lines - len(faults)} more lines")
    found = f"{len(page.layout)} series, {len(page.metadata)} families"
    summary = f"{found}, {page.bad_lines} lines cannot be read" if faults else f"ok: {found}"
    return Verdict(path, "openmetrics" if is_openmetrics else "text", summary, tuple(faults))


def _check_yaml(path: Path, body: bytes) -> Verdict:
    try:
        configuration = parse_configuration(body.decode(), str(path), path.parent.absolute())
    except UnicodeDecodeError:
        return Verdict(path, "prometheus.yml", "is not UTF-8", (f"{path}: is not UTF-8",))
    except ConfigError as error:
        faults = tuple(str(error).splitlines())
        return Verdict(path, "prometheus.yml", f"{len(faults)} faults", faults)
    found = f"{len(configuration.jobs)} jobs, {len(configuration.targets())} targets listed"
    return Verdict(path, "prometheus.yml", "; ".join((f"ok: {found}", *configuration.remarks)), ())
