"""Read and write any Prometheus-compatible server: ours, Prometheus, VictoriaMetrics, Thanos, Mimir.

The only way in which the other packages read measurements. Answers arrive as labels and NumPy arrays; every failure
is a ``SourceError`` that names the address and the reason.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

import httpx
import numpy as np
import orjson

from collector.model import remote_write
from collector.model.answered import Answered, each_alone
from collector.model.errors import SourceError
from collector.model.feedback import Feedback, feedback_from_json, feedback_to_json
from collector.model.labels import Labels, from_mapping
from collector.model.log_json import log_from_json
from collector.model.logs import LogRecord
from collector.model.series import Sample, Series
from collector.model.span_json import span_from_json
from collector.model.spans import Span, SpanStatus

LONG_QUERY_BYTES = 1500
"""Parameters longer than this travel in a POST body; proxies refuse long addresses."""

WRITE_BATCH_SERIES = 2000
BATCH_QUERIES = 100

_NO_BATCHES = frozenset({"http_404", "not_found", "http_405", "http_400", "bad_data"})
"""How servers refuse a path that they do not know."""

Parameters = Mapping[str, str | list[str]]
Answer = TypeVar("Answer")
Health = Literal["up", "down", "unknown"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """One scraped address as the server sees it now; ``last_scrape_s`` is Unix seconds, None before the first."""

    url: str
    labels: Labels
    health: Health
    last_error: str
    last_scrape_s: float | None
    last_scrape_duration_s: float


class Client:
    """Prometheus HTTP API over keep-alive connections; may be used by many threads at once.

    ``base_url`` may carry a path prefix (``http://mimir/prometheus``). ``transport`` is httpx's seam for tests.
    ``on_warning(expr, warning)`` is told what the server remarked beside its answer.
    All times are Unix seconds. Every method raises SourceError, and so does an address that is none.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        timeout_s: float = 10.0,
        transport: httpx.BaseTransport | None = None,
        on_warning: Callable[[str, str], None] | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        _check_address(base_url)
        self._timeout_s = timeout_s
        self._takes_batches = True
        self._on_warning = on_warning or (lambda expr, warning: _log.info("%s: %s", expr, warning))
        self._http = httpx.Client(
            timeout=timeout_s,
            transport=transport,
            headers=_headers(base_url, token),
            mounts={"all://127.0.0.1": None, "all://localhost": None} if transport is None else None,
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=16),
        )

    def query(self, expr: str, time_s: float | None = None) -> tuple[Sample, ...]:
        """Evaluate ``expr`` at one moment (the server's now by default).

        A scalar answer is one sample with empty labels; a range-vector or string answer is a SourceError.
        """
        return self._read("/api/v1/query", {"query": expr} | _times(time=time_s), _instant, expr)

    def query_all(self, exprs: Sequence[str], time_s: float) -> tuple[Answered, ...]:
        """Evaluate each of ``exprs`` at one moment as ``query`` does; an error is part of the answer, none is raised.

        A Loadline collector takes many in one request; any other server is asked one after the other.
        """
        found: list[Answered] = []
        while self._takes_batches and len(found) < len(exprs):
            try:
                found += self._batch(exprs[len(found) : len(found) + BATCH_QUERIES], time_s)
            except SourceError as error:
                if error.kind == "unreachable":
                    return (*found, *(Answered(error=error) for _ in exprs[len(found) :]))
                self._takes_batches = error.kind not in _NO_BATCHES
                break
        return (*found, *each_alone(self.query, exprs[len(found) :], time_s))

    def query_range(self, expr: str, start_s: float, end_s: float, step_s: float) -> tuple[Series, ...]:
        """Evaluate ``expr`` at every step of a range; series are as ragged as the server's answer."""
        parameters = {"query": expr, "step": f"{step_s:.3f}"} | _times(start=start_s, end=end_s)
        return self._read("/api/v1/query_range", parameters, _matrix, expr)

    def samples(self, selector: str, start_s: float, end_s: float) -> tuple[Series, ...]:
        """Samples as they were stored, ``start_s <= t <= end_s``, of the series that a selector names."""
        start_ms, end_ms = round(start_s * 1000), round(end_s * 1000)
        expr = f"{selector}[{end_ms - start_ms + 1}ms]"  # Prometheus 2 takes the left end of a range too
        found = self._read("/api/v1/query", {"query": expr} | _times(time=end_s), _matrix, expr)
        kept = [(one, one.timestamps_ms >= start_ms) for one in found]
        return tuple(Series(one.labels, one.timestamps_ms[late], one.values[late]) for one, late in kept if late.any())

    def metadata(self) -> dict[str, tuple[str, str, str]]:
        """Type, help and unit by metric, as the server's targets declared them."""
        return self._read("/api/v1/metadata", {}, _metadata)

    def series(self, matchers: Sequence[str], start_s: float, end_s: float) -> tuple[Labels, ...]:
        """Label sets that had samples in the range and fit any of the selectors."""
        parameters: Parameters = {"match[]": list(matchers), **_times(start=start_s, end=end_s)}
        return self._read("/api/v1/series", parameters, lambda data: tuple(map(from_mapping, data)))

    def label_values(self, name: str, start_s: float | None = None, end_s: float | None = None) -> tuple[str, ...]:
        """Values that label ``name`` takes, sorted."""
        return self._read(f"/api/v1/label/{quote(name, safe='')}/values", _times(start=start_s, end=end_s), tuple)

    def metric_names(self) -> tuple[str, ...]:
        """Every metric name that the server holds, sorted."""
        return self.label_values("__name__")

    def targets(self) -> tuple[Target, ...]:
        """What the server scrapes now."""
        return self._read(
            "/api/v1/targets", {"state": "active"}, lambda data: tuple(map(_target, data["activeTargets"]))
        )

    def rules(self) -> list[dict[str, Any]]:
        """Rule groups, as Prometheus's ``/api/v1/rules`` lists them."""
        return self._read("/api/v1/rules", {}, lambda data: list(data["groups"]))

    def alerts(self) -> list[dict[str, Any]]:
        """Active alerts, as Prometheus's ``/api/v1/alerts`` lists them."""
        return self._read("/api/v1/alerts", {}, lambda data: list(data["alerts"]))

    def spans(
        self,
        *,
        service: str | None = None,
        name: str | None = None,
        trace_id: str | None = None,
        min_duration_ms: float | None = None,
        status: SpanStatus | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        attributes: Mapping[str, str] | None = None,
        limit: int = 100,
    ) -> tuple[Span, ...]:
        """Spans that satisfy every filter given, latest first; SourceError of kind ``no_spans`` where none are kept."""
        given = {"service": service, "name": name, "trace_id": trace_id, "min_duration_ms": min_duration_ms}
        parameters = _filters(given | {"status": status, "limit": limit}, attributes) | _times(start=start_s, end=end_s)
        return self._kept("spans", parameters, span_from_json)

    def logs(
        self,
        *,
        service: str | None = None,
        severity: str | int | None = None,
        text: str | None = None,
        trace_id: str | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        attributes: Mapping[str, str] | None = None,
        limit: int = 100,
    ) -> tuple[LogRecord, ...]:
        """Log records that satisfy every filter given, latest first; SourceError of kind ``no_logs`` as for spans.

        ``severity``: that or worse, by name (``WARN``) or number. ``text``: every word of it stands in the body.
        """
        given = {"service": service, "severity": severity, "text": text, "trace_id": trace_id, "limit": limit}
        return self._kept("logs", _filters(given, attributes) | _times(start=start_s, end=end_s), log_from_json)

    def feedback(
        self,
        *,
        request_id: str | None = None,
        trace_id: str | None = None,
        rating: str | None = None,
        model: str | None = None,
        tenant: str | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        limit: int = 100,
    ) -> tuple[Feedback, ...]:
        """Feedback that satisfies every filter given, latest first; SourceError ``no_feedback`` as for spans."""
        given = {"request_id": request_id, "trace_id": trace_id, "rating": rating, "model": model, "tenant": tenant}
        parameters = _filters(given | {"limit": limit}) | _times(start=start_s, end=end_s)
        return self._kept("feedback", parameters, feedback_from_json)

    def give_feedback(self, several: Iterable[Feedback]) -> None:
        """Tell what was said of answers; SourceError names those that were refused, the others are kept."""
        body = orjson.dumps([feedback_to_json(one) for one in several])
        self._send("/api/v1/feedback", method="POST", content=body, headers={"Content-Type": "application/json"})

    def write(self, series: Iterable[Series]) -> None:
        """Push samples by remote write 1.0, in batches of at most 2,000 series."""
        remaining = iter(series)
        while batch := list(islice(remaining, WRITE_BATCH_SERIES)):
            body = remote_write.encode(batch)
            self._send("/api/v1/write", method="POST", content=body, headers=remote_write.CONTENT_HEADERS)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _batch(self, exprs: Sequence[str], time_s: float) -> list[Answered]:
        path = "/api/v1/query_batch"
        body = orjson.dumps({"time": round(time_s, 3), "queries": list(exprs)})
        response = self._send(path, method="POST", content=body, headers={"Content-Type": "application/json"})
        try:
            several = orjson.loads(response.content)["data"]
            found = [self._one_of_batch(expr, one) for expr, one in zip(exprs, several, strict=False)]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SourceError(f"{self.base_url}{path}: answers no batch: {error!r}", kind="not_found") from error
        if not found:
            raise SourceError(f"{self.base_url}{path}: answers nothing", kind="not_found")
        return found

    def _one_of_batch(self, expr: str, one: Mapping[str, Any]) -> Answered:
        if one["status"] != "success":
            refusal = SourceError(f"{self.base_url}: {one['error']}", str(one["errorType"]))
            return Answered(error=refusal, took_s=one["seconds"])
        self._pass_on(expr, one)
        try:
            return Answered(_instant(one["data"]), took_s=one["seconds"])
        except ValueError as error:
            return Answered(error=SourceError(f"{self.base_url}: {error}", kind="bad_answer"), took_s=one["seconds"])

    def _pass_on(self, asked: str, body: Mapping[str, Any]) -> None:
        for kind in ("warnings", "infos"):
            told = body.get(kind)
            for warning in told if isinstance(told, list) else ():
                self._on_warning(asked, str(warning))

    def _kept(self, what: str, parameters: Parameters, reader: Callable[[Any], Answer]) -> tuple[Answer, ...]:
        """Records that only a Loadline collector keeps."""
        try:
            return self._read(f"/api/v1/{what}", parameters, lambda data: tuple(map(reader, data)))
        except SourceError as error:
            if error.kind not in ("http_404", "not_found"):
                raise
            message = f"{self.base_url}: keeps no {what}; only a Loadline collector does"
            raise SourceError(message, kind=f"no_{what}") from error

    def _read(
        self, path: str, parameters: Parameters, reader: Callable[[Any], Answer], expr: str | None = None
    ) -> Answer:
        form = dict(parameters)
        size = sum(len(value) if isinstance(value, str) else sum(map(len, value)) for value in form.values())
        way: dict[str, Any] = (
            {"method": "POST", "data": form} if size > LONG_QUERY_BYTES else {"method": "GET", "params": form}
        )
        response = self._send(path, **way)
        try:
            body = orjson.loads(response.content)
            answer = reader(body["data"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"{self.base_url}{path}: answers no such JSON as Prometheus does: {error!r}"
            raise SourceError(message, kind="bad_answer") from error
        self._pass_on(expr or path, body)
        return answer

    def _send(self, path: str, *, method: str, **arguments: Any) -> httpx.Response:
        url = self.base_url + path
        try:
            response = self._http.request(method, url, **arguments)
        except httpx.TimeoutException as error:
            raise SourceError(f"{url}: no answer within {self._timeout_s:g} s", "timeout") from error
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as error:
            raise SourceError(f"{url}: cannot be reached: {error}", "unreachable") from error
        if response.is_success:
            return response
        raise _refusal(url, response)


def _check_address(base_url: str) -> None:
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, ValueError) as error:
        raise SourceError(f'source "{base_url}": {error}', kind="bad_address") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise SourceError(f'source "{base_url}": an address looks like http://127.0.0.1:9190', kind="bad_address")


def _headers(base_url: str, token: str | None) -> dict[str, str]:
    """To this machine answers travel faster than they could be packed."""
    plain = httpx.URL(base_url).host in ("127.0.0.1", "::1", "localhost")
    return ({"Accept-Encoding": "identity"} if plain else {}) | ({"Authorization": f"Bearer {token}"} if token else {})


def _filters(given: Mapping[str, object], attributes: Mapping[str, str] | None = None) -> dict[str, str]:
    texts = {key: str(value) for key, value in given.items() if value is not None}
    return texts | {f"attr.{key}": value for key, value in (attributes or {}).items()}


def _times(**times_s: float | None) -> dict[str, str]:
    return {name: f"{time_s:.3f}" for name, time_s in times_s.items() if time_s is not None}


def _instant(data: Any) -> tuple[Sample, ...]:
    kind, result = data["resultType"], data["result"]
    if kind == "scalar":
        return (_sample({}, result),)
    if kind != "vector":
        raise ValueError(f"the expression answers a {kind}; query() takes a vector or a scalar")
    return tuple(_sample(entry["metric"], _floats(entry, "value")) for entry in result)


def _matrix(data: Any) -> tuple[Series, ...]:
    return tuple(_series(entry["metric"], _floats(entry, "values")) for entry in data["result"])


def _floats(entry: Mapping[str, Any], key: str) -> Any:
    if key not in entry:
        raise ValueError(f"{entry['metric']}: holds native histograms; only float samples are read")
    return entry[key]


def _sample(metric: Mapping[str, str], pair: Sequence[Any]) -> Sample:
    return Sample(from_mapping(metric), round(pair[0] * 1000), float(pair[1]))


def _series(metric: Mapping[str, str], pairs: Sequence[Sequence[Any]]) -> Series:
    times_s, texts = zip(*pairs, strict=True) if pairs else ((), ())
    timestamps_ms = np.rint(np.array(times_s, dtype=np.float64) * 1000).astype(np.int64)
    return Series(from_mapping(metric), timestamps_ms, np.fromiter(map(float, texts), np.float64, len(texts)))


def _metadata(data: Any) -> dict[str, tuple[str, str, str]]:
    return {
        name: (str(told[0]["type"]), str(told[0].get("help", "")), str(told[0].get("unit", "")))
        for name, told in data.items()
        if told
    }


def _target(entry: dict[str, Any]) -> Target:
    scraped = _unix_seconds(entry.get("lastScrape", ""))
    return Target(
        url=entry["scrapeUrl"],
        labels=from_mapping(entry["labels"]),
        health=entry["health"],
        last_error=entry.get("lastError", ""),
        last_scrape_s=scraped if scraped is not None and scraped > 0 else None,
        last_scrape_duration_s=float(entry.get("lastScrapeDuration", 0.0)),
    )


def _unix_seconds(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _refusal(url: str, response: httpx.Response) -> SourceError:
    try:
        answer = orjson.loads(response.content)
        kind, reason = str(answer["errorType"]), str(answer["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        kind, reason = f"http_{response.status_code}", response.text.strip()[:300] or response.reason_phrase
    return SourceError(f"{url}: {response.status_code}: {reason}", kind)
