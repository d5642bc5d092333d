"""What alerts call to ease a fleet's load: every change is a state, is logged, and has a way back."""

import asyncio
import logging
import sys
from contextlib import asynccontextmanager

import httpx
import pytest
from aiohttp import web

from probe_engine.gateway.app import Gateway
from probe_engine.gateway.settings import GatewaySettings

SHOWN = {"authorization": "Bearer op"}
BODY = {"model": "m", "prompt": "hello", "max_tokens": 8}


class Engine:
    """A replica that serves, can be held, and has the engine's own ``/admin/limits``."""

    def __init__(self):
        self.url = ""
        self.asked = 0
        self.told = []
        self.refuses = False
        self.held = asyncio.Event()
        self.held.set()
        self.reached = asyncio.Event()
        app = web.Application()
        app.router.add_post("/v1/completions", self._generate)
        app.router.add_post("/admin/limits", self._limits)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)

    async def start(self):
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self):
        await self._runner.cleanup()

    async def _generate(self, request):
        self.asked += 1
        self.reached.set()
        await self.held.wait()
        return web.json_response({"choices": [{"text": "x"}], "usage": {"total_tokens": 20}})

    async def _limits(self, request):
        self.told.append((await request.json(), request.headers.get("authorization")))
        return web.json_response({"error": {"message": "no"}}, status=400 if self.refuses else 200)


class Operated:
    """Two engines behind a gateway, and an operator's client."""

    def __init__(self, gateway, client, engines):
        self.gateway, self.client, self.engines = gateway, client, engines

    @property
    def urls(self):
        return [engine.url for engine in self.engines]

    async def change(self, name, **fields):
        return await self.client.post(f"/admin/{name}", json=fields, headers=SHOWN)

    async def weigh(self, weights):
        return await self.client.post("/admin/weights", json=weights, headers=SHOWN)

    async def state(self):
        return (await self.client.get("/admin/state", headers=SHOWN)).json()

    async def ask(self, times=1):
        return [(await self.client.post("/v1/completions", json=BODY)).status_code for _ in range(times)]

    def asked(self):
        return [engine.asked for engine in self.engines]


@asynccontextmanager
async def operated(**options):
    engines = [Engine(), Engine()]
    for engine in engines:
        await engine.start()
    settings = GatewaySettings(upstream=tuple(engine.url for engine in engines), routing="round_robin", **options)
    gateway = Gateway(settings, tokens={"admin": "op", "upstream": "engines"})
    await gateway.start(probing=False)
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url="http://g") as client:
            yield Operated(gateway, client, engines)
    finally:
        await gateway.stop()
        for engine in engines:
            await engine.stop()


def running(scenario):
    return asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_draining_replica_keeps_what_it_has_and_gets_nothing_new():
    async def scenario():
        async with operated() as fleet:
            fleet.engines[0].held.clear()
            under_way = asyncio.create_task(fleet.ask())
            await fleet.engines[0].reached.wait()
            draining = (await fleet.change("drain", replica=fleet.urls[0])).json()["replicas"][0]
            statuses = await fleet.ask(4)
            asked = fleet.asked()
            fleet.engines[0].held.set()
            ended = await under_way
            drained = (await fleet.state())["replicas"][0]
            await fleet.change("drain", replica=fleet.urls[0], draining=False)
            await fleet.ask(2)
            return draining, statuses, asked, ended, drained, fleet.asked()

    draining, statuses, asked, ended, drained, after = running(scenario)
    assert (draining["draining"], draining["drained"], draining["in_flight"]) == (True, False, 1)
    assert (statuses, asked, ended) == ([200] * 4, [1, 4], [200])
    assert (drained["drained"], after[0]) == (True, 2)


def test_weights_switch_traffic_in_one_step_or_not_at_all():
    async def scenario():
        async with operated() as fleet:
            switched = await fleet.weigh({fleet.urls[0]: 0, fleet.urls[1]: 3})
            await fleet.ask(5)
            asked = fleet.asked()
            wrong = [
                await fleet.weigh({fleet.urls[0]: 5, "http://elsewhere": 1}),
                await fleet.weigh({fleet.urls[1]: 0}),
                await fleet.weigh({fleet.urls[0]: "much"}),
                await fleet.weigh({}),
            ]
            return switched, asked, wrong, await fleet.state()

    switched, asked, wrong, state = running(scenario)
    assert [one["weight"] for one in switched.json()["replicas"]] == [0, 3]
    assert asked == [0, 5]
    assert [one.status_code for one in wrong] == [400] * 4
    assert [one["weight"] for one in state["replicas"]] == [0, 3]


def test_a_batch_limit_is_told_to_the_engine_with_its_token_and_remembered():
    async def scenario():
        async with operated() as fleet:
            limited = await fleet.change("batch", replica=fleet.urls[0], max_num_seqs=4)
            fleet.engines[1].refuses = True
            refused = await fleet.change("batch", replica=fleet.urls[1], max_num_seqs=4)
            wrong = await fleet.change("batch", replica=fleet.urls[0], max_num_seqs=0)
            lifted = await fleet.change("batch", replica=fleet.urls[0], max_num_seqs=None)
            return limited, refused, wrong, lifted, fleet.engines[0].told

    limited, refused, wrong, lifted, told = running(scenario)
    assert [one["batch_limit"] for one in limited.json()["replicas"]] == [4, None]
    assert (refused.status_code, wrong.status_code) == (400, 400)
    assert lifted.json()["replicas"][0]["batch_limit"] is None
    assert told == [({"max_num_seqs": 4}, "Bearer engines"), ({"max_num_seqs": None}, "Bearer engines")]


def test_an_engine_that_cannot_be_told_is_a_502():
    async def scenario():
        async with operated() as fleet:
            await fleet.engines[0].stop()
            return await fleet.change("batch", replica=fleet.urls[0], max_num_seqs=4), await fleet.state()

    answer, state = running(scenario)
    assert answer.status_code == 502
    assert state["replicas"][0]["batch_limit"] is None


def test_a_restart_runs_the_operators_command_once_with_the_replicas_url(tmp_path):
    log, go = tmp_path / "ran", tmp_path / "go"
    code = (
        "import os, pathlib, time\n"
        f"pathlib.Path({str(log)!r}).open('a').write(os.environ['LOADLINE_REPLICA'] + '\\n')\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n"
    )
    script = tmp_path / "restart.py"
    script.write_text(code)

    async def scenario():
        async with operated(restart_command=f"{sys.executable} {script}") as fleet:
            began = (await fleet.change("restart", replica=fleet.urls[0])).json()["replicas"][0]
            again = (await fleet.change("restart", replica=fleet.urls[0])).json()["replicas"][0]
            go.touch()
            while (state := (await fleet.state())["replicas"][0]["restart"])["state"] == "running":
                await asyncio.sleep(0.01)
            return began, again, state, fleet.urls[0]

    began, again, state, url = running(scenario)
    assert began["restart"] == again["restart"] == {"state": "running"}
    assert state == {"state": "done"}
    assert log.read_text() == f"{url}\n"


def test_a_restart_that_fails_says_why_and_without_a_command_it_is_refused():
    async def scenario():
        async with operated(restart_command=f"{sys.executable} -c 'raise SystemExit(\"no\")'") as fleet:
            await fleet.change("restart", replica=fleet.urls[1])
            while (state := (await fleet.state())["replicas"][1]["restart"])["state"] == "running":
                await asyncio.sleep(0.01)
        async with operated() as fleet:
            return state, await fleet.change("restart", replica=fleet.urls[1])

    state, refused = running(scenario)
    assert state == {"state": "failed", "why": "exit code 1: no"}
    assert refused.status_code == 409


def test_asking_twice_is_asking_once_and_restore_takes_everything_back(caplog):
    async def scenario():
        async with operated(model_concurrency=10) as fleet:
            before = await fleet.state()
            for _ in range(2):
                await fleet.change("limits", model_concurrency=2, tokens_per_s=50)
                await fleet.change("breaker", replica=fleet.urls[0], state="open")
                await fleet.change("drain", replica=fleet.urls[1])
                await fleet.change("batch", replica=fleet.urls[1], max_num_seqs=3)
                await fleet.weigh({fleet.urls[0]: 7})
            changed = await fleet.state()
            nobody = await fleet.ask()
            restored = (await fleet.change("restore")).json()
            return before, changed, nobody, restored, await fleet.ask(2)

    with caplog.at_level(logging.WARNING):
        before, changed, nobody, restored, served = running(scenario)
    assert changed["replicas"][0]["times_opened"] == {"operator": 1}
    assert (changed["limits"]["model_concurrency"], changed["limits"]["tokens_per_s"]) == (2, 50)
    assert (nobody, served) == ([503], [200, 200])
    for name in ("limits", "configured_limits"):
        assert restored[name] == before[name]
    kept = ("weight", "draining", "breaker", "batch_limit")
    assert [{name: one[name] for name in kept} for one in restored["replicas"]] == [
        {name: one[name] for name in kept} for one in before["replicas"]
    ]
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("admin: ")]
    assert len(told) == 11
    assert told[-1] == "admin: restore {}"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("nothing", {}, 404),
        ("drain", {"replica": "http://elsewhere"}, 400),
        ("drain", {"replica": 5, "draining": True}, 400),
        ("drain", {"replica": "{url}", "draining": "yes"}, 400),
        ("drain", {"replica": "{url}", "drainnig": True}, 400),
        ("breaker", {"replica": "{url}", "state": "ajar"}, 400),
        ("limits", {"nothing": 5}, 400),
        ("restore", {"all": True}, 400),
        ("batch", [], 400),
    ],
)
def test_what_means_nothing_is_refused_and_changes_nothing(path, body, status):
    async def scenario():
        async with operated() as fleet:
            before = await fleet.state()
            filled = {name: fleet.urls[0] if value == "{url}" else value for name, value in dict(body).items()}
            sent = filled if isinstance(body, dict) else body
            answer = await fleet.client.post(f"/admin/{path}", json=sent, headers=SHOWN)
            return answer, before, await fleet.state()

    answer, before, after = running(scenario)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert before == after
