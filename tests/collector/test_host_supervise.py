"""The supervisor: starts in order, prefixes, stops everything, says which process could not start and why."""

import io
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from collector.host.supervise import Process, StartError, Supervisor, check_ports

SERVER = textwrap.dedent("""
    import http.server, sys
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200); self.end_headers()
        def log_message(self, *args): pass
    print("serving", flush=True)
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
""")
SUPERVISE = textwrap.dedent("""
    import sys
    from collector.host.supervise import Process, Supervisor
    processes = [Process(f"child{port}", (sys.executable, "-c", sys.argv[1], port), f"http://127.0.0.1:{port}/")
                 for port in sys.argv[2:]]
    sys.exit(Supervisor(processes, sys.stderr, "all up").run())
""")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def python(name: str, code: str, **more: object) -> Process:
    return Process(name, (sys.executable, "-c", code), **more)  # type: ignore[arg-type]


def test_lines_are_prefixed_with_the_name_of_their_process():
    out = io.StringIO()
    processes = [python("one", "print('hello')", may_end=True), python("other", "exit(2)", may_end=True, gives_up=(2,))]
    assert Supervisor(processes, out, "up").run() == 1
    assert "one   │ hello" in out.getvalue()
    assert "up    │ one ended: exit code 0" in out.getvalue()
    assert "up    │ other ended: exit code 2" in out.getvalue()


def test_a_part_that_is_lost_is_started_again_and_the_others_go_on(tmp_path):
    first = tmp_path / "first"
    lost = f"""
import os, pathlib, signal
first = pathlib.Path({str(first)!r})
if first.exists():
    print("back", flush=True)
else:
    first.touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    out = io.StringIO()
    processes = [python("engine", lost, may_end=True), python("other", "input", may_end=True)]
    assert Supervisor(processes, out, "up").run() == 1
    said = out.getvalue()
    assert "engine ended: killed by SIGKILL; it is started again in 1 s" in said
    assert "engine │ back" in said


def test_a_process_that_dies_while_starting_is_named():
    out = io.StringIO()
    dead = python("engine", "raise SystemExit('no tokenizer')", ready_url=f"http://127.0.0.1:{free_port()}/")
    assert Supervisor([dead], out, "up").run() == 2
    assert "engine did not start: exit code 1" in out.getvalue()
    assert "engine │ no tokenizer" in out.getvalue()


def test_a_command_that_does_not_exist_is_named():
    out = io.StringIO()
    assert Supervisor([Process("engine", ("/nonexistent/loadline",))], out, "up").run() == 2
    assert "engine cannot start" in out.getvalue()


def test_a_port_in_use_is_found_before_anything_starts():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        with pytest.raises(
            StartError, match=r"collector cannot start: 127\.0\.0\.1:\d+ is in use; .*\[collector\] port"
        ):
            check_ports([Process("collector", ("x",), url)])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_leaves_no_process(number: signal.Signals):
    ports = [str(free_port()), str(free_port())]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, SERVER, *ports], cwd=root, stderr=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stderr is not None
        for line in supervisor.stderr:
            if "all up" in line:
                break
        children = psutil.Process(supervisor.pid).children(recursive=True)
        assert len(children) == 2
        os.kill(supervisor.pid, number)
        supervisor.wait(timeout=30)
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive
        if number != signal.SIGKILL:
            assert supervisor.returncode == 0
