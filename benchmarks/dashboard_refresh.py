"""What the dashboard costs: server CPU per refresh and viewers per core, a browser's refresh, first page and heap.

Twelve panels of 6 series x 240 points over a source that holds them: `python -m benchmarks.dashboard_refresh`. Source
and server are processes of their own; the server's CPU time is read from /proc. Times of the browser are wall times,
so they are told beside the load average. The whole ends within LIMIT_S: what is late is left out, and said to be.
"""

import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import httpx
import numpy as np
import orjson

from benchmarks._servers import free_port, running
from collector.client import Client
from dashboard import board, plots
from dashboard.answers import CALLBACKS
from dashboard.app import create_app
from dashboard.board import Board
from dashboard.parts.panel import Panel
from dashboard.registry import Group
from dashboard.security import CSRF_COOKIE, CSRF_HEADER
from dashboard.server import SHARE_S
from dashboard.source import Source
from planner.slo import Slo

PANELS, SERIES = 12, 6
REFRESHES, OWN_RANGES = 150, 60
BROWSER_REFRESHES = 40
HOUR_OF_REFRESHES = 360
FEWEST_FOR_A_SLOPE = 120
PERIOD_S, BUSY = 10.0, 0.6
PAUSE_MS = 100
"""Between refreshes, as no viewer asks in the very frame of the last answer."""

LIMIT_S = 520.0
"""Of everything together."""

BROWSER_LIMIT_S = 400.0
HTTP_LIMIT_S = 30.0
ANSWER_LIMIT_MS = 15_000
MOST_LOST = 5
"""Refreshes that are not drawn within ANSWER_LIMIT_MS; beyond so many the browser is given up."""

CHROMIUM = "/usr/bin/chromium"
METRIC = "loadline_num_requests_running"


class Prometheus(BaseHTTPRequestHandler):
    """Holds one gauge of six pools, which move, and what never changes beside it: one target, one version."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """A query whose parameters stand in the address."""
        self._answer(urlsplit(self.path).query)

    def do_POST(self) -> None:
        """A query whose parameters stand in the body."""
        self._answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""

    def _answer(self, form: str) -> None:
        asked = {name: values[-1] for name, values in parse_qs(form).items()}
        body = orjson.dumps({"status": "success", "data": told(urlsplit(self.path).path, asked)})
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def told(path: str, asked: dict[str, str]) -> object:
    """What the source answers."""
    if path == "/api/v1/query_range":
        start, end, step = (float(asked[name]) for name in ("start", "end", "step"))
        _, of_panel, index = asked["query"].rpartition(" + ")  # queries for changes are no panel's, and find nothing
        numbers = [int(index) * SERIES + pool for pool in range(SERIES)] if of_panel else []
        return {"resultType": "matrix", "result": [series(number, start, end, step) for number in numbers]}
    if path == "/api/v1/query":
        value = [time.time(), str(time.time() - (7200 if "min(" in asked["query"] else 1))]
        return {"resultType": "vector", "result": [{"metric": {"pool": f"pool-{SERIES}"}, "value": value}]}
    if path == "/api/v1/label/__name__/values":
        return [METRIC, "up"]
    return {"activeTargets": []} if path == "/api/v1/targets" else []


def series(number: int, start: float, end: float, step: float) -> dict[str, object]:
    """One line of one panel, which moves on with the clock; no two are alike."""
    pool, times = number % SERIES, np.arange(start, end + step / 2, step)
    noise = np.modf(np.sin(times * 12.9898 + number * 78.233) * 43758.5453)[0]
    values = 50 + 8 * pool + 10 * np.sin(times / 600 + number) + 3 * noise
    pairs = [[at, repr(value)] for at, value in zip(times.tolist(), values.tolist(), strict=True)]
    return {"metric": {"pool": f"pool-{pool + 1}"}, "values": pairs}


def twelve() -> tuple[Group, ...]:
    """One page of twelve panels."""
    parts = [
        plots.lines(Panel(f"be-{index}", f"Panel {index + 1}"), _build(index), floor_top=4) for index in range(PANELS)
    ]
    made = board.page(Board(key="be", title="Twelve panels", parts=parts), path="/", icon="gauge", key="o")
    return (Group("Benchmark", (made,)),)


def _build(index: int) -> plots.Build:
    return lambda ask: f"{ask.vocabulary.gauge('running_requests')} + {index}"


def hold(port: int) -> None:
    """The source of the dashboard under measurement."""
    ThreadingHTTPServer(("127.0.0.1", port), Prometheus).serve_forever()


def serve(port: int, share_s: float, source_url: str) -> None:
    """The dashboard under measurement."""
    from waitress import serve as wait_and_serve

    source = Source(Client(source_url), lambda slo, at_s: ())
    app = create_app(source, Slo(), groups=twelve(), share_s=share_s)
    wait_and_serve(app.server, host="127.0.0.1", port=port, threads=8, _quiet=True)


def cpu_s(pid: int) -> float:
    """Processor seconds that a process has used."""
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Viewer:
    """Asks for a refresh as a browser does."""

    def __init__(self, address: str) -> None:
        self.http = httpx.Client(base_url=address, headers={"Accept-Encoding": "gzip"}, timeout=HTTP_LIMIT_S)
        self.http.get("/")
        dependencies = self.http.get("/_dash-dependencies").json()
        self.output = next(one["output"] for one in dependencies if "be-stamp.data" in one["output"])
        names = self.output.strip(".").split("...")
        self.outputs = [dict(zip(("id", "property"), name.rsplit(".", 1), strict=True)) for name in names]

    def refresh(self, search: str) -> int:
        """Bytes on the wire."""
        tick = {"n": 1, "search": search, "offset_s": 0}
        inputs = [{"id": "tick", "property": "data", "value": tick}]
        body = {"output": self.output, "outputs": self.outputs, "inputs": inputs, "changedPropIds": ["tick.data"]}
        token = self.http.cookies[CSRF_COOKIE]
        answer = self.http.post(CALLBACKS, json=body, headers={CSRF_HEADER: token})
        answer.raise_for_status()
        return answer.num_bytes_downloaded


def server_cpu(address: str, pid: int) -> list[dict[str, Any]]:
    """Milliseconds of the server's CPU per refresh: of viewers of one address, of viewers of as many addresses over one
    range, and of viewers each of whom has a range of their own, so that nothing is shared."""
    viewer, rows = Viewer(address), []
    viewer.refresh("?range=1h")
    kinds = (
        ("one address", REFRESHES, _same),
        ("an address each", REFRESHES, _own),
        ("a range each", OWN_RANGES, _far),
    )
    for what, turns, address_of in kinds:
        before, began = cpu_s(pid), time.monotonic()
        for turn in range(turns):
            sent = viewer.refresh(address_of(turn))
        each_ms = (cpu_s(pid) - before) / turns * 1e3
        taken_s = time.monotonic() - began
        _say(f"{what}: {each_ms:.2f} ms CPU, {sent} bytes, {taken_s:.1f} s for {turns}")
        viewers = BUSY * PERIOD_S / (each_ms / 1e3)
        rows += [
            _row(f"server CPU per refresh, viewers of {what}", round(each_ms, 2), "ms"),
            _row(f"viewers per core at 10 s and 60 % load, of {what}", round(viewers), "viewers", lower=False),
        ]
    return rows


def _same(turn: int) -> str:
    return "?range=1h"


def _own(turn: int) -> str:
    return f"?range=1h&mine={turn}"


def _far(turn: int) -> str:
    """An hour that nobody else looks at, on the grid of its steps."""
    end = 1_790_000_000 // 15 * 15 - 15 * turn
    return f"?from={end - 3585}&to={end}"


KINDS = (("one address", REFRESHES, _same), ("an address each", REFRESHES, _own), ("a range each", OWN_RANGES, _far))


def in_browser(address: str) -> list[dict[str, Any]]:
    """First page cold, refreshes, and the heap after an hour's worth of them."""
    from playwright.sync_api import Error, sync_playwright

    end = time.monotonic() + BROWSER_LIMIT_S
    rows: list[dict[str, Any]] = []
    with sync_playwright() as kit:
        browser = kit.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900}, locale="en-GB")
        page.set_default_timeout(60_000)
        page.add_init_script("try { localStorage.setItem('loadline-refresh', '0'); } catch (e) { /* none */ }")
        wire = page.context.new_cdp_session(page)
        wire.send("Network.enable")
        wire.send("Performance.enable", {"timeDomain": "threadTicks"})
        received: list[float] = []
        wire.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
        try:
            began = time.monotonic()
            page.goto(address)
            page.locator(f".js-line >> nth={PANELS * SERIES - 1}").wait_for(state="attached")
            cold_ms, weight_kb = (time.monotonic() - began) * 1e3, sum(received) / 1e3
            _say(f"cold: {cold_ms:.0f} ms, {weight_kb:.0f} kB")
            rows += [_row("first page, cold", round(cold_ms), "ms"),
                     _row("first page, transferred", round(weight_kb), "kB")]  # fmt: skip
            for what, address_of in (("", _same), (", every query asked anew", _far)):
                before_ms = page_cpu_ms(wire)
                took = sorted(refreshes(page, address_of, BROWSER_REFRESHES, end))
                p95, each_ms = took[int(0.95 * (len(took) - 1))], (page_cpu_ms(wire) - before_ms) / len(took)
                p50, told = statistics.median(took), f"refresh of 12 panels{what}"
                _say(f"{told}: {p50:.0f} / {p95:.0f} ms of {len(took)}, {each_ms:.0f} ms CPU")
                rows += [_row(f"{told}, p50", round(p50), "ms"), _row(f"{told}, p95", round(p95), "ms"),
                         _row(f"{told}, CPU of the page's thread", round(each_ms), "ms")]  # fmt: skip
            rows.append(_row("heap growth over an hour of refreshes", round(heap_growth(page, wire, end)), "kB"))
        except (Error, TimeoutError) as failure:
            _say(f"given up: {failure}")
        finally:
            browser.close()
    return rows


ONE_REFRESH = """([search, limit_ms]) => new Promise((done, fail) => {
  const began = performance.now();
  const late = setTimeout(() => fail(new Error('not drawn in time')), limit_ms);
  document.addEventListener('loadline:stamped', () => requestAnimationFrame(() => setTimeout(
    () => { clearTimeout(late); done(performance.now() - began); })), { once: true });
  dash_clientside.set_props('tick', { data: { n: began, search, offset_s: 0 } });
})"""


def refresh_ms(page: Any, search: str) -> float:
    """From the asking to the first frame after the answer was drawn. Raises playwright's Error where it is late."""
    taken: float = page.evaluate(ONE_REFRESH, [search, ANSWER_LIMIT_MS])
    return taken


def page_cpu_ms(wire: Any) -> float:
    """Processor time of the page's main thread so far, which draws."""
    told = wire.send("Performance.getMetrics")["metrics"]
    return 1e3 * float(next(one["value"] for one in told if one["name"] == "TaskDuration"))


def refreshes(page: Any, address_of: Callable[[int], str], count: int, end: float) -> list[float]:
    """Milliseconds of ``count`` refreshes, or of as many as fit before ``end``. Raises TimeoutError."""
    from playwright.sync_api import Error

    took: list[float] = []
    lost = 0
    for turn in range(count):
        if time.monotonic() > end or lost > MOST_LOST:
            raise TimeoutError(f"{len(took)} of {count} refreshes drawn, {lost} lost")
        page.wait_for_timeout(PAUSE_MS)
        try:
            took.append(refresh_ms(page, address_of(turn)))
        except Error as failure:
            lost += 1
            _say(f"refresh {turn}: {failure.message}")
    return took


def heap_growth(page: Any, wire: Any, end: float) -> float:
    """Kilobytes by which the heap grows in an hour of refreshes: the slope of a line through what is left after forced
    collections, without the first fifth; the data are new each time. Raises TimeoutError where too few fit."""
    counts, heaps = [], []
    for turn in range(0, HOUR_OF_REFRESHES, 20):
        if time.monotonic() > end and turn >= FEWEST_FOR_A_SLOPE:
            break
        refreshes(page, lambda one, turn=turn: _far(100 + turn + one), 20, end + 30)  # type: ignore[misc]
        wire.send("HeapProfiler.collectGarbage")
        counts.append(turn)
        heaps.append(wire.send("Runtime.getHeapUsage")["usedSize"] / 1e3)
        _say(f"after {turn + 20} refreshes: {heaps[-1]:.0f} kB")
    settled = len(counts) // 5
    return float(np.polyfit(counts[settled:], heaps[settled:], 1)[0]) * HOUR_OF_REFRESHES


def _row(what: str, ours: float, unit: str, *, lower: bool = True) -> dict[str, Any]:
    return {"what": what, "ours": ours, "unit": unit, "lower_is_better": lower}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def until(holds: Callable[[], bool], limit_s: float = 60.0) -> None:
    """Wait for what is on its way. Raises TimeoutError."""
    end = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not ready within {limit_s:g} s")
        time.sleep(0.1)


def _answers(address: str) -> bool:
    try:
        with urlopen(Request(address), timeout=2) as answer:
            ready: bool = answer.status == 200
            return ready
    except OSError:
        return False


def served(share_s: float, measure: Callable[[str, int], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """``measure`` over the address and process id of a server of its own, beside its source."""
    command = [sys.executable, "-m", "benchmarks.dashboard_refresh"]
    with ExitStack() as stack:
        source_port = free_port()
        source = f"http://127.0.0.1:{source_port}"
        stack.enter_context(running([*command, "hold", str(source_port)]))
        until(lambda: _answers(f"{source}/api/v1/targets"))
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        process = stack.enter_context(running([*command, "serve", str(port), str(share_s), source]))
        until(lambda: _answers(f"{address}/healthz"))
        return measure(address, process.pid)


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"not done within {LIMIT_S:g} s")


def main(arguments: Sequence[str]) -> None:
    """Measure, or be what is measured (``hold PORT``, ``serve PORT SHARE_S SOURCE``)."""
    if arguments[:1] == ["hold"]:
        hold(int(arguments[1]))
        return
    if arguments[:1] == ["serve"]:
        serve(int(arguments[1]), float(arguments[2]), arguments[3])
        return
    signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    rows: list[dict[str, Any]] = []
    try:
        rows += served(SHARE_S, server_cpu)
        rows += served(0.0, lambda address, _pid: in_browser(address))
    except TimeoutError as failure:
        _say(f"given up: {failure}")
    signal.setitimer(signal.ITIMER_REAL, 0)
    rows.append(_row("load average meanwhile (an idle machine: 0)", os.getloadavg()[0], "processes"))
    print(json.dumps({"benchmark": "dashboard_refresh", "rows": rows}))


if __name__ == "__main__":
    main(sys.argv[1:])
