"""Tell what a target is: a ``prometheus.yml`` that can be read, or a metrics page, saved or served, and its engine."""

from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from collector.model.errors import ConfigError, SourceError
from collector.model.exposition import ACCEPT, ScrapeParser
from collector.scrape.configuration import parse_configuration
from collector.signals import load_dialects
from collector.speaking import Spoken, listen, without_page

YAML_ENDINGS = (".yml", ".yaml")
PAGES = ("/metrics", "/prometheus/metrics")
"""Where a metrics page is looked for when a URL names none."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found.

    ``faults`` are lines ``target:line: reason``, none where the target is well; ``speaks`` are the engines and
    exporters of a metrics page, ``unknown`` its metric families that none of them is known to have.
    """

    target: str
    kind: str
    summary: str
    faults: tuple[str, ...]
    speaks: tuple[Spoken, ...] = ()
    unknown: tuple[str, ...] = ()


def check_target(target: str, http: httpx.Client) -> Verdict:
    """A URL, or a file by its ending; raises ConfigError or SourceError where there is nothing to be read."""
    if target.startswith(("http://", "https://")):
        return check_url(target, http)
    return check_file(Path(target))


def check_file(path: Path) -> Verdict:
    """Read ``path``, by its ending as configuration or as a metrics page; ConfigError where it is not there."""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if path.suffix in YAML_ENDINGS:
        return _check_yaml(path, body)
    is_openmetrics = body.rstrip(b"\n").endswith(b"# EOF")
    return _check_page(str(path), body, "application/openmetrics-text" if is_openmetrics else "text/plain")


def check_url(url: str, http: httpx.Client) -> Verdict:
    """Ask a server for its metrics page; one that has none is told by its other answers, if they are known.

    A URL without a path is asked for ``/metrics`` and ``/prometheus/metrics``. Raises SourceError where nobody answers.
    """
    parsed = httpx.URL(url)
    places = PAGES if parsed.path in ("", "/") else (parsed.path,)
    answers = []
    for place in places:
        asked = parsed.copy_with(path=place)
        response = _get(http, asked, {"Accept": ACCEPT})
        kind = response.headers.get("content-type", "")
        if response.status_code == 200 and "html" not in kind and "json" not in kind:
            return _told(_check_page(str(asked), response.content, kind), asked, http)
        answers.append(f"{place} answered {response.status_code}{f' ({kind})' if response.is_success else ''}")
    if _is_ollama(http, parsed):
        spoken = without_page("ollama", _version(http, parsed, "ollama"))
        fault = f"{url}: {spoken.note}"
        return Verdict(url, "no metrics page", f"{spoken.title} has no metrics page", (fault,), (spoken,))
    fault = f"{url}: no metrics page: {'; '.join(answers)}. {_switches()}"
    return Verdict(url, "no metrics page", "no metrics page", (fault,))


def _told(verdict: Verdict, url: httpx.URL, http: httpx.Client) -> Verdict:
    """The verdict with the versions that engines tell elsewhere than on their page."""
    speaks = (replace(one, version=_version(http, url, one.engine) or one.version) for one in verdict.speaks)
    return replace(verdict, speaks=tuple(speaks))


def _version(http: httpx.Client, url: httpx.URL, engine: str) -> str | None:
    """What the engine at ``url`` answers for its version; None where it has no such answer."""
    endpoint = next(one.endpoint for one in load_dialects() if one.engine == engine)
    if endpoint is None or endpoint.version_path is None:
        return None
    told = _json(_get(http, url.copy_with(path=endpoint.version_path)))
    version = told.get("version") if isinstance(told, dict) else None
    return version if isinstance(version, str) and version else None


def _get(http: httpx.Client, url: httpx.URL, headers: dict[str, str] | None = None) -> httpx.Response:
    try:
        return http.get(url, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceError(f"{url}: cannot be reached: {error or type(error).__name__}", "unreachable") from error


def _is_ollama(http: httpx.Client, url: httpx.URL) -> bool:
    """Whether it lists loaded models as Ollama does."""
    loaded = _json(_get(http, url.copy_with(path="/api/ps")))
    return isinstance(loaded, dict) and isinstance(loaded.get("models"), list)


def _json(response: httpx.Response) -> object:
    try:
        return response.json() if response.is_success else None
    except ValueError:
        return None


def _switches() -> str:
    """Which engines show their page only with a flag."""
    flags = (
        f"{dialect.title}: {dialect.endpoint.flag}"
        for dialect in load_dialects()
        if dialect.endpoint is not None and dialect.endpoint.flag
    )
    return f"Some engines show one only when told to ({'; '.join(flags)})"


def _check_page(name: str, body: bytes, content_type: str) -> Verdict:
    page = ScrapeParser().parse(body, content_type)
    faults = [f"{name}:{error.line}: {error.reason}: {error.text}" for error in page.errors]
    if page.bad_lines > len(faults):
        faults.append(f"{name}: and {page.bad_lines - len(faults)} more lines")
    found = f"{len(page.layout)} series, {len(page.metadata)} families"
    summary = f"{found}, {page.bad_lines} lines cannot be read" if faults else f"ok: {found}"
    speech = listen(page.layout)
    kind = "openmetrics" if "openmetrics" in content_type else "text"
    return Verdict(name, kind, summary, tuple(faults), speech.spoken, speech.unknown)


def _check_yaml(path: Path, body: bytes) -> Verdict:
    try:
        configuration = parse_configuration(body.decode(), str(path), path.parent.absolute())
    except UnicodeDecodeError:
        return Verdict(str(path), "prometheus.yml", "is not UTF-8", (f"{path}: is not UTF-8",))
    except ConfigError as error:
        faults = tuple(str(error).splitlines())
        return Verdict(str(path), "prometheus.yml", f"{len(faults)} faults", faults)
    found = f"{len(configuration.jobs)} jobs, {len(configuration.targets())} targets listed"
    return Verdict(str(path), "prometheus.yml", "; ".join((f"ok: {found}", *configuration.remarks)), ())
