"""Credentials and TLS of scrapes."""

import asyncio
import base64
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from collector.model.errors import ConfigError
from collector.scrape.access import Access, Clients, Credentials, Tls, TokenAccess
from collector.scrape.configuration import parse_configuration
from collector.scrape.job import find_targets
from collector.scrape.oauth2 import OAuth2
from collector.scrape.scraper import Scraper
from collector.scrape.secret import Secret
from collector.scrape.target import Target
from collector.store import Store


def test_a_file_of_a_token_is_read_at_every_request(tmp_path: Path) -> None:
    path = tmp_path / "token"
    access = Access(Credentials("Bearer", Secret(file=path)))
    path.write_text("first\n")
    assert access.headers() == {"Authorization": "Bearer first"}
    path.write_text("second")
    assert access.headers() == {"Authorization": "Bearer second"}
    path.unlink()
    with pytest.raises(ConfigError, match="token: cannot be read"):
        access.headers()


def test_a_password_is_not_shown() -> None:
    credentials = Credentials("Basic", Secret("hidden"), Secret("user"))
    assert credentials.header() == "Basic dXNlcjpoaWRkZW4="
    assert "hidden" not in repr(credentials)


JOB = "scrape_configs:\n- job_name: a\n  {}\n"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("basic_auth: {password: x}", "f.yml:3:15: username: is absent; basic_auth needs one"),
        ("basic_auth: {username: u, password: x, password_file: y}", "password_file: stands beside password"),
        ("authorization: {type: Basic, credentials: x}", 'type: "Basic"; use basic_auth for that'),
        ("bearer_token: x\n  basic_auth: {username: u}", "bearer_token: stands beside basic_auth"),
        ("tls_config: {cert_file: x}", "cert_file: stands alone; cert_file and key_file go together"),
        ("tls_config: {min_version: x}", '"min_version" is not understood; allowed: ca_file'),
        ("proxy_url: ftp://p", 'proxy_url: "ftp://p"; a proxy looks like http://proxy:3128'),
        ("oauth2: {client_id: c}", "f.yml:3:11: token_url: is absent; oauth2 needs one"),
        ("oauth2: {client_id: c, token_url: x}", 'token_url: "x"; an address looks like https://host/token'),
        ("oauth2: {client_id: c, token_url: 'http://t', scope: a}", '"scope" is not understood; allowed: client_id'),
        ("bearer_token: x\n  oauth2: {client_id: c, token_url: 'http://t'}", "oauth2: stands beside bearer_token"),
        ("follow_redirects: maybe", 'follow_redirects: "maybe"; it may be true or false'),
    ],
)
def test_access_that_makes_no_sense_is_refused(line: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_configuration(JOB.format(line), "f.yml", Path())
    assert fault in str(caught.value)


def test_paths_begin_at_the_configuration() -> None:
    text = JOB.format("tls_config: {ca_file: ca.pem}\n  bearer_token_file: /run/token")
    (job,) = parse_configuration(text, "f.yml", Path("/etc/p")).jobs
    assert job.access.tls.ca_file == Path("/etc/p/ca.pem")
    assert job.access.credentials == Credentials("Bearer", Secret(file=Path("/run/token")))


class Page(BaseHTTPRequestHandler):
    """One metrics page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.end_headers()
        self.wfile.write(b"a 1\n")

    def log_message(self, *_: object) -> None:
        return


def make_certificate(folder: Path, name: str, *more: str) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem", "-days", "2", "-subj", f"/CN={name}"]
    subprocess.run([*command, *files, *more], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server's certificate for metrics.example, and a client's."""
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder, "server", "-addext", "subjectAltName=DNS:metrics.example")
    make_certificate(folder, "client")
    return folder


@pytest.fixture(scope="module")
def address(certificates: Path) -> Iterator[str]:
    """A metrics server that asks for the client's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    context.load_verify_locations(certificates / "client.pem")
    context.verify_mode = ssl.CERT_REQUIRED

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            return

    with Server(("127.0.0.1", 0), Page) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def scrape(store: Store, target: Target) -> str:
    async def run() -> str:
        scraper = Scraper(target, store, Clients().open(target.access))
        await scraper.scrape(1000)
        await scraper.http.aclose()
        return scraper.failure

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("tls", "failure"),
    [
        ("ca_file: server.pem, cert_file: client.pem, key_file: client.key, server_name: metrics.example", ""),
        ("insecure_skip_verify: true, cert_file: client.pem, key_file: client.key", ""),
        ("cert_file: client.pem, key_file: client.key, server_name: metrics.example", "certificate verify failed"),
        ("ca_file: server.pem, cert_file: client.pem, key_file: client.key, server_name: x.example", "mismatch"),
        ("insecure_skip_verify: true", "cannot be reached"),
    ],
)
def test_a_target_is_scraped_by_tls_only_where_both_sides_trust(
    tmp_path: Path, certificates: Path, address: str, tls: str, failure: str
) -> None:
    text = JOB.format(f"scheme: https\n  tls_config: {{{tls}}}\n  static_configs: [{{targets: ['{address}']}}]")
    (job,) = parse_configuration(text, "f.yml", certificates).jobs
    (target,) = find_targets(job, job.groups).targets.values()
    with Store.open(tmp_path) as store:
        found = scrape(store, target)
    assert (failure in found) if failure else found == ""


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ca_file .*none\.pem: cannot be used"):
        Clients().context(Tls(ca_file=tmp_path / "none.pem"))
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=r"cert_file .*bad\.pem: cannot be used"):
        Clients().context(Tls(cert_file=tmp_path / "bad.pem", key_file=tmp_path / "bad.pem"))


def test_a_changed_certificate_makes_a_new_context(certificates: Path, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes((certificates / "server.pem").read_bytes())
    clients = Clients()
    first = clients.context(Tls(ca_file=path))
    assert clients.context(Tls(ca_file=path)) is first
    path.unlink()
    path.write_bytes((certificates / "client.pem").read_bytes())
    assert clients.context(Tls(ca_file=path)) is not first


def test_a_token_does_not_follow_a_redirect_to_elsewhere(tmp_path: Path) -> None:
    seen: list[tuple[str, bool]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.host, "authorization" in request.headers))
        if request.url.host == "a":
            return httpx.Response(302, headers={"location": "http://b/metrics"})
        return httpx.Response(200, text="x 1\n")

    async def run() -> str:
        target = Target("http://a/metrics", (("job", "j"),), access=Access(Credentials("Bearer", Secret("t"))))
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            scraper = Scraper(target, store, http)
            await scraper.scrape(1000)
            return scraper.failure

    with Store.open(tmp_path) as store:
        assert asyncio.run(run()) == ""
    assert seen == [("a", True), ("b", False)]


class Guarded(BaseHTTPRequestHandler):
    """Gives tokens to who knows the secret, and a page to who has the latest token; answers as a proxy too."""

    tokens: ClassVar[list[str]] = []
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["content-length"])).decode()
        self.asked.append(form)
        if self.headers["authorization"] != "Basic " + base64.b64encode(b"me:s%C3%A9cret").decode():
            self.answer(401, b"who?")
            return
        self.tokens.append(f"token{len(self.tokens)}")
        self.answer(200, json.dumps({"access_token": self.tokens[-1], "expires_in": 3600}).encode())

    def do_GET(self) -> None:
        self.asked.append(self.path)
        allowed = self.tokens and self.headers["authorization"] == f"Bearer {self.tokens[-1]}"
        self.answer(200 if allowed else 401, b"a 1\n")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("content-type", "text/plain")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def guarded() -> Iterator[str]:
    """The address of a guarded page and of the proxy that leads to it."""
    Guarded.tokens, Guarded.asked = [], []
    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def target_of(text: str, folder: Path) -> Target:
    (job,) = parse_configuration(text, "f.yml", folder).jobs
    (target,) = find_targets(job, job.groups).targets.values()
    return target


OAUTH2 = """
scrape_configs:
- job_name: a
  static_configs: [{{targets: ['{address}']}}]
  oauth2: {{client_id: me, client_secret_file: secret, token_url: 'http://{address}/token', scopes: [r, w],
            endpoint_params: {{audience: metrics}}}}
"""


def test_a_target_is_scraped_with_a_token_that_is_fetched_once_and_again_when_refused(
    tmp_path: Path, guarded: str
) -> None:
    (tmp_path / "secret").write_text("s\u00e9cret\n")
    target = target_of(OAUTH2.format(address=guarded), tmp_path)

    async def run(store: Store) -> list[str]:
        clients = Clients()
        scrapers = [Scraper(target, store, clients.open(target.access)) for _ in range(2)]
        for number, scraper in enumerate((*scrapers, *scrapers)):
            if number == 3:
                Guarded.tokens.append("withdrawn")
            await scraper.scrape(1000 * (number + 1))
        for scraper in scrapers:
            await scraper.http.aclose()
        return [scraper.failure for scraper in scrapers]

    with Store.open(tmp_path / "store") as store:
        assert asyncio.run(run(store)) == ["", ""]
    form = "grant_type=client_credentials&audience=metrics&scope=r+w"
    assert Guarded.asked == [form, *["/metrics"] * 4, form, "/metrics"]


def test_a_token_that_is_not_given_fails_the_scrape_with_the_reason(tmp_path: Path, guarded: str) -> None:
    (tmp_path / "secret").write_text("wrong")
    target = target_of(OAUTH2.format(address=guarded), tmp_path)
    nowhere = Access(oauth2=TokenAccess(OAuth2("me", Secret("x"), "http://127.0.0.1:1/token")))
    with Store.open(tmp_path / "a") as store:
        assert scrape(store, target) == f"token_url http://{guarded}/token: answered 401 Unauthorized: who?"
    with Store.open(tmp_path / "b") as store:
        assert "token_url http://127.0.0.1:1/token: cannot be reached" in scrape(store, replace(target, access=nowhere))


def test_a_target_is_reached_through_its_proxy(tmp_path: Path, guarded: str) -> None:
    Guarded.tokens = ["t"]
    text = JOB.format(
        f"static_configs: [{{targets: ['far.invalid:81']}}]\n  proxy_url: http://{guarded}\n  bearer_token: t"
    )
    with Store.open(tmp_path / "store") as store:
        assert scrape(store, target_of(text, tmp_path)) == ""
    assert Guarded.asked == ["http://far.invalid:81/metrics"]


def test_a_client_secret_is_not_shown() -> None:
    text = JOB.format("oauth2: {client_id: c, client_secret: hidden, token_url: 'http://t'}")
    read = parse_configuration(text, "f.yml", Path())
    assert "hidden" not in read.text
    assert "hidden" not in repr(read.jobs)
