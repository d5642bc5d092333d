import re
from hashlib import sha256
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs_version

import dashboard
from dashboard.access import Access
from dashboard.app import create_app
from dashboard.registry import load_groups, pages_of
from planner.slo import Slo

PAGES = pages_of(load_groups())
PACKAGE = Path(dashboard.__file__).parent
ASSETS = PACKAGE / "assets"


def test_the_shell_shows_only_pages_that_exist(source):
    layout = (
        create_app(source, Slo())
        .server.test_client()
        .get("/_dash-layout")
        .get_data(as_text=True)
        .replace("\\u002f", "/")
    )
    assert re.findall(r'"data-path":"([^"]*)"', layout) == [page.path for page in PAGES]


def test_under_a_prefix_every_address_of_the_page_carries_it(source):
    client = create_app(source, Slo(), path_prefix="/load/").server.test_client()
    index = client.get("/load/").get_data(as_text=True)
    assert not [url for url in re.findall(r'(?:src|href)="(/[^"]*)"', index) if not url.startswith("/load/")]
    layout = client.get("/load/_dash-layout").get_data(as_text=True).replace("\\u002f", "/")
    assert '"data-path":"/load/latency"' in layout
    assert client.get("/load/healthz").status_code == 200


def test_with_a_token_only_health_is_open(source):
    client = create_app(source, Slo(), access=Access("s3cret")).server.test_client()
    paths = ["/", "/latency", "/_dash-layout", "/_dash-dependencies", "/assets/20-app.css", "/_favicon.ico"]
    assert {client.get(path).status_code for path in paths} == {401}
    assert client.post("/_dash-update-component", json={}).status_code == 401
    assert client.get("/healthz").status_code == 200
    assert client.get("/", headers={"Authorization": "Bearer s3cret"}).status_code == 200


def test_the_index_names_no_address_beyond_this_server(source):
    index = create_app(source, Slo()).server.test_client().get("/").get_data(as_text=True)
    assert not re.findall(r'(?:src|href)="https?:', index)
    assert "plotly.min.js" not in index


def test_inline_scripts_are_those_whose_hashes_the_policy_holds(source):
    from dashboard.security import script_hash

    answer = create_app(source, Slo()).server.test_client().get("/")
    inline = re.findall(
        r"<script(?: id=\"_dash-renderer\"[^>]*)?(?: type=\"application/javascript\")?>(.*?)</script>",
        answer.text,
        re.DOTALL,
    )
    assert inline
    policy = answer.headers["Content-Security-Policy"]
    assert all(script_hash(text) in policy for text in inline)


def test_every_vendored_file_is_the_one_that_was_recorded():
    listed = re.findall(
        r"^\| `([^`*]+)` .*\| ([0-9a-f]{64}) \|$", (ASSETS / "VENDORED.md").read_text("utf-8"), re.MULTILINE
    )
    assert len(listed) == 4
    for name, digest in listed:
        assert sha256((ASSETS / name).read_bytes()).hexdigest() == digest, name


def test_the_charts_bundle_is_the_version_that_plotly_py_bundles(source):
    client = create_app(source, Slo(), path_prefix="/load/").server.test_client()
    address = re.search(r'src="(/load/data/charts[^"]*)"', client.get("/load/").get_data(as_text=True))[1]
    answer = client.get(address, headers={"Accept-Encoding": "br"})
    assert answer.headers["Content-Encoding"] == "br"
    assert len(answer.data) < 500_000
    assert f"v{get_plotlyjs_version()}" in client.get(address).get_data(as_text=True)[:200]


def test_every_icon_that_is_named_exists():
    css = (ASSETS / "20-app.css").read_text("utf-8")
    styled = set(re.findall(r"\.ic-([a-z0-9-]+)\{", css))
    files = {path.stem for path in (ASSETS / "icons").glob("*.svg")}
    named = {
        name for path in PACKAGE.rglob("*.py") for name in re.findall(r'icon\("([a-z0-9-]+)"', path.read_text("utf-8"))
    }
    named |= {page.icon for page in PAGES}
    assert styled == files
    assert named <= files


def tokens(theme):
    css = (ASSETS / "20-app.css").read_text("utf-8")
    block = css.split(f"[data-theme={theme}]{{", 1)[1].split("}", 1)[0]
    return dict(re.findall(r"--([a-z0-9]+):(#[0-9A-Fa-f]{6})", block))


def luminance(color):
    parts = [int(color[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("ink", ["ink", "ink2", "ink3", "brand", "ok", "warn", "bad"])
def test_every_text_colour_can_be_read_on_its_surface(theme, ink):
    found = tokens(theme)
    high, low = sorted((luminance(found[ink]), luminance(found["sf"])), reverse=True)
    assert (high + 0.05) / (low + 0.05) >= 4.5
