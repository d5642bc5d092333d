"""Samples leave a store as OpenMetrics text and come into another the same; promtool and Prometheus read it too."""

import gzip
import io
import json
import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from starlette.types import ASGIApp
from typer.testing import CliRunner

from collector.api.app import create_app
from collector.api.parts import Parts
from collector.cli import app
from collector.client import Client
from collector.exporting import export
from collector.importing import MAX_LINE_BYTES, Imported, IntoStore, Kept, import_lines
from collector.model import openmetrics
from collector.model.labels import METRIC_NAME, Labels, from_mapping
from collector.model.matchers import Matcher
from collector.model.openmetrics import LineReader, sample_lines
from collector.model.series import Series, is_stale
from collector.store import Store

START_MS = 1_700_000_000_000
ALL = (Matcher(METRIC_NAME, "=~", ".+"),)
ANY_AGE_MS = 1 << 53

Samples = dict[Labels, list[tuple[int, str]]]


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def samples(store: Store) -> Samples:
    """Everything that a store holds but stale markers; values as texts, so that NaN equals NaN."""
    found: Samples = {}
    for group in store.select(ALL, -ANY_AGE_MS, ANY_AGE_MS):
        for column, labels in enumerate(group.labels):
            kept = ~is_stale(group.values[:, column])
            pairs = zip(group.timestamps_ms[kept].tolist(), group.values[kept, column].tolist(), strict=True)
            found[labels] = [(time_ms, repr(value)) for time_ms, value in pairs]
    return {labels: points for labels, points in found.items() if points}


def types_of(text: str) -> dict[str, str]:
    """Families by type, as the strict reader sees them: each moment apart, since it drops some of a second one."""
    lines = text.splitlines()
    found = {}
    for moment in {line.rsplit(" ", 1)[1] for line in lines if not line.startswith("#")}:
        kept = [line for line in lines if line.startswith("#") or line.endswith(f" {moment}")]
        found.update({family.name: family.type for family in text_string_to_metric_families("\n".join(kept) + "\n")})
    return found


def series(name: str, values: list[float], step_ms: int = 5000, **labels: str) -> Series:
    times = START_MS + step_ms * np.arange(len(values), dtype=np.int64)
    return Series(from_mapping({METRIC_NAME: name, **labels}), times, np.array(values, dtype=np.float64))


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A data directory with a counter, a histogram, odd names and a target that went away."""
    with Store.open(tmp_path / "a") as store:
        store.append_series(
            [
                series("tokens_total", [1.0, 2.5, 4.0], model_name="tiny"),
                series("tokens_total", [7.0], model_name='o"d\\d\nname'),
                series("ttft_seconds_bucket", [1.0, 2.0], le="0.5"),
                series("ttft_seconds_bucket", [1.0, 3.0], le="+Inf"),
                series("ttft_seconds_count", [1.0, 3.0]),
                series("ttft_seconds_sum", [0.25, 1.5]),
                series("temperature", [np.nan, np.inf, -np.inf, 1e-300, 1e22], step_ms=1),
                series("temperature", [-0.0]),
            ]
        )
        layout = [from_mapping({METRIC_NAME: "gone", "job": "x"})]
        store.append_scrape("g", layout, START_MS + 100, np.array([1.0]))
        store.mark_stale("g", START_MS + 5100)
        store.set_metadata("tokens", "counter", 'Tokens,\nmade "here".', "")
        store.set_metadata("temperature", "gauge", "", "")
        store.set_metadata("ttft_seconds", "histogram", "Time to first token.", "")
    return tmp_path / "a"


@pytest.mark.parametrize("name", ["x.om", "x.om.gz", "x.om.zst"])
def test_what_was_exported_is_imported_the_same(filled: Path, tmp_path: Path, name: str) -> None:
    arguments = ("--start", "1600000000", "--end", "1800000000")
    code, _, told = run("export", tmp_path / name, "--data", filled, *arguments)
    assert (code, told.splitlines()) == (
        0,
        ["8 series, 18 samples", "left out: 1 stale markers, which OpenMetrics cannot say"],
    )
    assert run("import", tmp_path / name, "--data", tmp_path / "b")[0] == 0
    with Store.open(filled, read_only=True) as before, Store.open(tmp_path / "b", read_only=True) as after:
        assert samples(after) == samples(before)
        assert after.metadata()["tokens"].help == 'Tokens,\nmade "here".'
        assert after.metadata()["temperature"].type == "gauge"
        assert after.metadata()["ttft_seconds"] == before.metadata()["ttft_seconds"]


def test_the_text_is_openmetrics_to_the_letter(filled: Path, tmp_path: Path) -> None:
    run("export", tmp_path / "x", "--data", filled, "--start", "1600000000", "--end", "1800000000")
    text = (tmp_path / "x").read_text()
    assert text.startswith('# TYPE gone unknown\ngone{job="x"} 1 1700000000.100\n# TYPE temperature gauge\n')
    expected = [
        '# HELP tokens Tokens,\\nmade \\"here\\".',
        'tokens_total{model_name="o\\"d\\\\d\\nname"} 7 1700000000',
        'tokens_total{model_name="tiny"} 1 1700000000',
    ]
    assert "\n".join(expected) in text
    assert text.endswith("# EOF\n")
    assert types_of(text) == {
        "gone": "unknown",
        "temperature": "gauge",
        "tokens": "counter",
        "ttft_seconds": "histogram",
    }


FAMILIES = """\
# TYPE q summary
# HELP q Waiting.
q{model="a",quantile="0.5"} 1 1700000000
q_count{model="a"} 2 1700000000
q_sum{model="a"} 3 1700000000
q{model="a",quantile="0.5"} 1.5 1700000005
q_count{model="a"} 4 1700000005
q_sum{model="a"} 6 1700000005
# TYPE t histogram
# HELP t Time.
t_bucket{le="2.0",model="a"} 1 1700000000
t_bucket{le="10.0",model="a"} 2 1700000000
t_bucket{le="+Inf",model="a"} 3 1700000000
t_count{model="a"} 3 1700000000
t_created{model="a"} 1600000000 1700000000
t_sum{model="a"} 20.5 1700000000
t_bucket{le="2.0",model="a"} 2 1700000005
t_bucket{le="10.0",model="a"} 3 1700000005
t_bucket{le="+Inf",model="a"} 4 1700000005
t_count{model="a"} 4 1700000005
t_created{model="a"} 1600000000 1700000005
t_sum{model="a"} 22.5 1700000005
t_bucket{le="+Inf",model="b"} 1 1700000001
t_count{model="b"} 1 1700000001
t_sum{model="b"} 9 1700000001
# TYPE u counter
u_total{model="a"} 1 1700000000
# EOF
"""
"""What belongs together stands together, in the order of time; in the order of names, labels and bounds."""


def test_histograms_and_summaries_keep_their_type_and_stand_together_at_each_moment(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(FAMILIES)
    assert run("import", tmp_path / "x", "--data", tmp_path / "a")[0] == 0
    span = ("--start", "1600000000", "--end", "1800000000")
    assert run("export", tmp_path / "y", "--data", tmp_path / "a", *span)[0] == 0
    text = (tmp_path / "y").read_text()
    assert text == FAMILIES
    assert types_of(text) == {"q": "summary", "t": "histogram", "u": "counter"}


@pytest.mark.parametrize(
    ("names", "kinds", "families"),
    [
        (["a_sum", "a_count"], {"a": "histogram"}, {"a_count": "unknown", "a_sum": "unknown"}),
        (["a", "a_bucket"], {"a": "histogram"}, {"a": "unknown", "a_bucket": "unknown"}),
        (["a_bucket", "a_created"], {"a": "histogram", "a_created": "gauge"}, {"a": "histogram"}),
        (["a_bucket", "a_count"], {"a": "histogram", "a_count": "gauge"}, {"a": "histogram", "a_count": "gauge"}),
        (["a_total", "a_bucket"], {"a": "histogram", "a_total": "counter"}, {"a": "histogram", "a_total": "unknown"}),
        (["a_total", "a_created"], {"a_total": "counter", "a_created": "gauge"}, {"a": "counter"}),
        (["a_total", "a"], {"a": "counter"}, {"a": "unknown", "a_total": "unknown"}),
        (["a_count"], {"a": "summary"}, {"a": "summary"}),
        (["a_bucket", "a_sum"], {"a": "histogram", "a_bucket": "unknown"}, {"a": "histogram"}),
    ],
)
def test_a_metric_is_written_under_a_family_only_where_that_is_whole(
    names: list[str], kinds: dict[str, str], families: dict[str, str]
) -> None:
    assert dict(openmetrics.families(names, kinds)) == {
        (name, kind): found
        for name, kind in families.items()
        for found in [sorted(one for one in names if one.startswith(name) and (one == name or one not in families))]
    }


def test_a_selector_and_a_range_choose_what_is_exported(filled: Path, tmp_path: Path) -> None:
    arguments = ("--match", 'tokens_total{model_name="tiny"}', "--match", "temperature", "--json")
    code, out, _ = run(
        "export", tmp_path / "x", "--data", filled, *arguments, "--start", "1700000005", "--end", "1.8e9"
    )
    assert (code, json.loads(out)) == (0, {"series": 1, "samples": 2, "stale_markers": 0})
    assert "tokens_total" in (tmp_path / "x").read_text()


def test_a_server_is_exported_and_imported_into_as_a_directory_is(
    filled: Path, parts: Parts, serve_app: Callable[[ASGIApp], str], tmp_path: Path
) -> None:
    url = serve_app(create_app(parts))
    span = ("--start", "1699999999", "--end", "1700000100")
    run("export", tmp_path / "x", "--data", filled, *span)
    assert run("import", tmp_path / "x", "--source", url)[0] == 0
    assert run("export", tmp_path / "y", "--source", url, *span)[0] == 0
    with Store.open(filled, read_only=True) as before:
        assert samples(parts.store) == samples(before)
    lines = [line for line in (tmp_path / "x").read_text().splitlines() if not line.startswith("#")]
    assert sorted(lines) == sorted(one for one in (tmp_path / "y").read_text().splitlines() if not one.startswith("#"))


def test_bad_lines_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    lines = [
        b"# TYPE a gauge",
        b'a{b="c"} 1 1700000000',
        b'a{b="c" 2 1700000001',
        b'a{b="c"} x 1700000002',
        b'a{b="c"} 3',
        b'a{b="c"} 4 1e300',
        b"\xff\xfe 1 1",
        b'a{b="c"} 5 1700000005 # {trace_id="t"} 0.5',
        b'a{b="c"} 1 1700000000',
        b'a{b="c"} 9 1700000000',
    ]
    (tmp_path / "x").write_bytes(b"\n".join(lines))
    code, out, told = run("import", tmp_path / "x", "--data", tmp_path / "d", "--json")
    assert code == 1
    assert json.loads(out) == {"samples": 2, "known": 1, "bad_lines": 6, "refused": 1}
    numbers = [line.split(": ")[1] for line in told.splitlines()]
    assert numbers == ["line 3", "line 4", "line 5", "line 6", "line 7", "line 11", "1 samples were refused"]
    with Store.open(tmp_path / "d", read_only=True) as store:
        assert samples(store) == {
            from_mapping({METRIC_NAME: "a", "b": "c"}): [(1_700_000_000_000, "1.0"), (1_700_000_005_000, "5.0")]
        }


def test_samples_older_than_those_of_the_directory_are_taken(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_text('tokens_total{model_name="tiny"} 0.5 1600000000\n# EOF\n')
    assert run("import", tmp_path / "x", "--data", filled)[0] == 0
    with Store.open(filled, read_only=True) as store:
        assert (
            samples(store)[from_mapping({METRIC_NAME: "tokens_total", "model_name": "tiny"})][0][0] == 1_600_000_000_000
        )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("export", "OUT", "--data", "nowhere"), "no collector's data lie there"),
        (("export", "OUT", "--data", "DATA", "--match", "rate(x[5m])"), "is not a series selector"),
        (("export", "OUT", "--data", "DATA", "--start", "2", "--end", "1"), "--end is 1"),
        (("export", "none/OUT", "--data", "DATA"), "cannot be written"),
        (("import", "none", "--data", "d"), "cannot be read"),
        (("import", "plain.gz", "--data", "d"), "cannot be read"),
        (("import", "plain.zst", "--data", "d"), "cannot be read"),
        (("import", "plain", "--source", "http://127.0.0.1:1"), "cannot be reached"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_code_2(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("plain", "plain.gz", "plain.zst"):
        (tmp_path / name).write_text("a 1 1\n# EOF\n")
    code, _, error = run(*(str(filled) if one == "DATA" else one for one in arguments))
    assert (code, len(error.splitlines())) == (2, 1), error
    assert told in error
    assert not [path for path in tmp_path.iterdir() if "OUT" in path.name]


class Memory:
    """Keeps what was imported, and how large the largest batch was."""

    def __init__(self) -> None:
        self.batches: list[list[Series]] = []

    def append(self, batch: list[Series]) -> Kept:
        self.batches.append(batch)
        return Kept(sum(len(one.values) for one in batch), 0)

    def describe(self, family: str, kind: str, help: str, unit: str) -> None:
        return


def imported(body: bytes) -> tuple[Imported, Memory, list[str]]:
    sink, told = Memory(), list[str]()
    return import_lines(io.BytesIO(body), sink, told.append), sink, told


@given(
    st.binary(max_size=400)
    | st.lists(st.sampled_from([b"a", b"{", b'b="c"', b"}", b" ", b"1", b"\n", b"#"])).map(b"".join)
)
def test_any_file_is_read_to_its_end_or_named_line_by_line(body: bytes) -> None:
    done, sink, told = imported(body)
    assert len(told) == done.bad_lines
    assert done.samples == sum(len(one.values) for batch in sink.batches for one in batch)


def test_a_line_without_end_takes_no_more_memory_than_a_line_may() -> None:
    done, _, told = imported(b"a" * (3 * MAX_LINE_BYTES) + b"\na 1 1\n# EOF\n")
    assert (done.samples, told) == (1, [f"line 1: longer than {MAX_LINE_BYTES} bytes"])


names = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,8}", fullmatch=True) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6
)
label_sets = st.dictionaries(
    names.filter(lambda name: name != METRIC_NAME),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    max_size=3,
)
points = st.dictionaries(st.integers(-(1 << 40), 1 << 42), st.floats(allow_subnormal=True), min_size=1, max_size=5)


@given(names, label_sets, points)
def test_a_line_reads_back_as_the_sample_it_was_written_from(
    name: str, labels: dict[str, str], values: dict[int, float]
) -> None:
    times = np.array(sorted(values), dtype=np.int64)
    one = Series(
        from_mapping({METRIC_NAME: name, **labels}),
        times,
        np.array([values[t] for t in times.tolist()], dtype=np.float64),
    )
    reader = LineReader()
    read = [reader.read(line) for line in sample_lines(one).split(b"\n")[:-1]]
    assert {labels for labels, _, _ in read} == {one.labels}
    assert [time_ms for _, time_ms, _ in read] == times.tolist()
    np.testing.assert_array_equal([value for _, _, value in read], one.values)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40), st.integers(0, 3)), max_size=30))
def test_a_store_comes_out_and_in_again_the_same(
    tmp_path_factory: pytest.TempPathFactory, given_samples: list[tuple[str, int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("exchange")
    one_each = {(name, time): value for name, time, value in given_samples}
    with Store.open(folder / "a") as before, Store.open(folder / "b", out_of_order_ms=ANY_AGE_MS) as after:
        for (name, time), value in sorted(one_each.items(), key=lambda item: item[0][1]):
            times = np.array([START_MS + time], dtype=np.int64)
            before.append_series([Series(((METRIC_NAME, name),), times, np.array([float(value)]))])
        text = io.BytesIO()
        export(before, (), START_MS, START_MS + 100, text)
        done = import_lines(io.BytesIO(text.getvalue()), IntoStore(after), lambda fault: None)
        assert (done.samples, done.bad_lines) == (len(one_each), 0)
        assert samples(after) == samples(before)


def test_packed_files_are_what_their_names_say(filled: Path, tmp_path: Path) -> None:
    span = ("--start", "1600000000", "--end", "1800000000")
    for name in ("x", "x.gz", "x.zst"):
        run("export", tmp_path / name, "--data", filled, *span)
    plain = (tmp_path / "x").read_bytes()
    assert gzip.decompress((tmp_path / "x.gz").read_bytes()) == plain
    reader = zstandard.ZstdDecompressor().stream_reader((tmp_path / "x.zst").read_bytes())
    assert reader.read() == plain


@pytest.mark.peer
def test_promtool_makes_blocks_of_an_export_and_prometheus_answers_the_same(
    filled: Path,
    tmp_path: Path,
    start_prometheus: Callable[..., AbstractContextManager[str]],
) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    span = ("--start", "1600000000", "--end", "1800000000")
    run("export", tmp_path / "x", "--data", filled, *span)
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", str(tmp_path / "x"), str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with start_prometheus(tmp_path, "", "--storage.tsdb.retention.time=20y") as url, Client(url) as client:
        theirs = {
            one.labels: [*zip(one.timestamps_ms.tolist(), map(repr, one.values.tolist()), strict=True)]
            for one in client.samples('{__name__=~".+"}', 1_699_999_999, 1_700_000_100)
        }
        assert run("export", tmp_path / "y", "--source", url, "--start", "1699999999", "--end", "1700000100")[0] == 0
    with Store.open(filled, read_only=True) as ours:
        assert theirs == samples(ours)
    assert run("import", tmp_path / "y", "--data", tmp_path / "c")[0] == 0
    with Store.open(filled, read_only=True) as before, Store.open(tmp_path / "c", read_only=True) as after:
        assert samples(after) == samples(before)


def test_of_very_many_bad_lines_the_first_are_told_and_the_rest_counted(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("bad line\n" * 250 + "a 1 1\n# EOF\n")
    code, _, told = run("import", tmp_path / "x", "--data", tmp_path / "d")
    lines = told.splitlines()
    assert (code, len(lines)) == (1, 102)
    assert lines[99].startswith(f"{tmp_path / 'x'}: line 100: ")
    assert lines[100:] == [f"{tmp_path / 'x'}: and 150 more", "1 samples stored, 0 known already"]
