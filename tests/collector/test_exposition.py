"""The page parser against prometheus_client, the format's own examples and arbitrary bytes."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from collector.model.errors import ExpositionError
from collector.model.exposition import MAX_ERRORS, Metadata, PageExemplar, ScrapeParser, parse_text
from collector.model.labels import Labels, from_mapping

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def referee(text: str) -> dict[Labels, float]:
    """prometheus_client's reading; it appends ``_total`` to the names of counters that lack it."""
    read: dict[Labels, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name
            if family.type == "counter" and name.endswith("_total") and f"# TYPE {name} counter" not in text:
                name = name.removesuffix("_total")
            read[from_mapping({"__name__": name, **sample.labels})] = sample.value
    return read


def same(left: float, right: float) -> bool:
    return left == right or (math.isnan(left) and math.isnan(right))


def assert_agree(body: bytes) -> None:
    ours, theirs = dict(parse_text(body)), referee(body.decode())
    assert ours.keys() == theirs.keys()
    assert all(same(value, theirs[labels]) for labels, value in ours.items())


@pytest.mark.parametrize(
    "name",
    ["vllm-0.32.0.prom", "dynamo-1.6.1-frontend.prom", "dynamo-1.6.1-mocker-worker.prom", "litellm-1.99.4.prom"],
)
def test_real_pages_read_as_prometheus_client_reads_them(shared_data: Path, name: str) -> None:
    assert_agree((shared_data / "expositions" / name).read_bytes())


LABEL_VALUES = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\r"), max_size=12)
FLOATS = st.floats().map(lambda value: {math.inf: "+Inf", -math.inf: "-Inf"}.get(value, repr(value)))


def escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@st.composite
def lines(draw: st.DrawFn) -> tuple[str, Labels, float]:
    name = draw(st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,8}", fullmatch=True))
    labels = draw(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,4}", fullmatch=True), LABEL_VALUES, max_size=3))
    value = draw(FLOATS)
    pairs = ",".join(f'{key}="{escaped(text)}"' for key, text in labels.items())
    braces = f"{{{pairs}{draw(st.sampled_from(['', ','])) if pairs else ''}}}" if pairs or draw(st.booleans()) else ""
    space, time = draw(st.sampled_from([" ", "  ", "\t"])), draw(st.sampled_from(["", " 1395066363000"]))
    return f"{name}{braces}{space}{value}{time}", from_mapping({"__name__": name, **labels}), float(value)


@settings(deadline=None)
@given(st.lists(lines(), max_size=6, unique_by=lambda line: line[1]))
def test_whatever_is_written_is_read_twice_the_same(written: list[tuple[str, Labels, float]]) -> None:
    body = "".join(f"{text}\n" for text, _, _ in written).encode()
    parser = ScrapeParser()
    first, again = parser.parse(body), parser.parse(body)
    assert first.layout == tuple(labels for _, labels, _ in written)
    assert first.errors == again.errors == ()
    assert all(same(got, value) for got, (_, _, value) in zip(first.values, written, strict=True))
    assert again.layout is first.layout
    np.testing.assert_array_equal(first.values, again.values)


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["text/plain", OPENMETRICS]))
def test_no_bytes_make_the_parser_raise(body: bytes, content_type: str) -> None:
    parser = ScrapeParser()
    for scrape in (parser.parse(body, content_type), parser.parse(body, content_type)):
        assert len(scrape.layout) == len(set(scrape.layout)) == len(scrape.values)


@settings(deadline=None)
@given(st.text('a{}b="\\ ,#1.\n\t', max_size=60))
def test_a_second_reading_of_odd_lines_agrees_with_the_first(text: str) -> None:
    parser = ScrapeParser()
    first, again = parser.parse(text.encode()), parser.parse(text.encode())
    assert first.layout == again.layout
    assert first.bad_lines == again.bad_lines
    np.testing.assert_array_equal(first.values, again.values)


def test_braces_commas_and_spaces_inside_label_values_are_text() -> None:
    body = b'path{q="a},{b=\\"c\\" 1",w="x # y"} 3\n'
    assert parse_text(body) == [(from_mapping({"__name__": "path", "q": 'a},{b="c" 1', "w": "x # y"}), 3.0)]
    assert_agree(body)


def test_an_unknown_escape_stays_as_it_is_written() -> None:
    assert parse_text(b'a{b="c\\d\\\\n"} 1\n')[0][0] == (("__name__", "a"), ("b", "c\\d\\n"))


def test_quoted_names_may_hold_any_character() -> None:
    body = b'{"http.server.duration","service.name"="api"} 2\n{"x y"} 1\n'
    assert [labels for labels, _ in parse_text(body)] == [
        (("__name__", "http.server.duration"), ("service.name", "api")),
        (("__name__", "x y"),),
    ]


def test_an_empty_label_value_is_an_absent_label() -> None:
    assert parse_text(b'a{b=""} 1\n') == [((("__name__", "a"),), 1.0)]


def test_special_values_and_timestamps_are_read() -> None:
    values = [value for _, value in parse_text(b"a NaN\nb +Inf 12\nc -Inf -5\nd 1e-3 1395066363000\n")]
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf, 0.001]


def test_a_page_with_timestamps_keeps_its_layout() -> None:
    parser = ScrapeParser()
    first = parser.parse(b'a{b="c"} 1 1000\nd 2 1000\n')
    again = parser.parse(b'a{b="c"} 5 2000\nd 6 2000\n')
    assert again.layout is first.layout
    assert again.values.tolist() == [5.0, 6.0]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a", "space and a value"),
        ("a-b 1", "expected a metric name"),
        ("a 1_000", "is not a number"),
        ("a 0x1p4", "is not a number"),
        ("a one", "is not a number"),
        ("a 1 2 3", "at most a timestamp"),
        ("a 1 soon", "is not a number"),
        ('a{b="c"', "expected a metric name"),
        ('a{b="c"}', "expected a value"),
        ("a{b=c} 1", "label expected"),
        ("a{b} 1", "has no value"),
        ('a{b="1",b="2"} 1', "given twice"),
        ('{b="1"} 1', "no metric name"),
        ('{"a","b"} 1', "given twice"),
        ('a 1 # {x="y"} 0.5', "only OpenMetrics"),
        ("# TYPE a countre", "known types are counter"),
        ('a{b="\udcff"} 1', "UTF-8"),
    ],
)
def test_a_bad_line_is_reported_with_its_number_and_the_rest_goes_on(line: str, reason: str) -> None:
    body = b"before 1\n" + line.encode(errors="surrogateescape") + b"\nafter 2\n"
    parser = ScrapeParser()
    for scrape in (parser.parse(body), parser.parse(body)):
        assert [dict(labels)["__name__"] for labels in scrape.layout] == ["before", "after"]
        assert scrape.values.tolist() == [1.0, 2.0]
        (error,) = scrape.errors
        assert error.line == 2
        assert reason in error.reason


def test_many_bad_lines_are_counted_but_not_all_kept() -> None:
    scrape = ScrapeParser().parse(b"?\n" * 1000)
    assert scrape.bad_lines == 1000
    assert len(scrape.errors) == MAX_ERRORS


def test_a_series_given_twice_keeps_its_first_value() -> None:
    parser = ScrapeParser()
    for _ in range(2):
        scrape = parser.parse(b'a{x="1",y="2"} 1\nb 5\na{y="2",x="1"} 2\n')
        assert scrape.values.tolist() == [1.0, 5.0]
        assert (scrape.errors[0].line, scrape.errors[0].reason) == (3, "series given twice")


def test_a_series_that_comes_and_goes_changes_the_layout() -> None:
    parser = ScrapeParser()
    assert len(parser.parse(b"a 1\nb 2\n").layout) == 2
    assert parser.parse(b"b 3\n").layout == ((("__name__", "b"),),)
    assert parser.parse(b"a 1\nb 2\nc 3\n").values.tolist() == [1.0, 2.0, 3.0]


def test_series_gone_for_good_are_forgotten() -> None:
    parser = ScrapeParser()
    for number in range(5000):
        scrape = parser.parse(f'a{{id="{number}"}} 1\nb 2\n'.encode())
        assert scrape.layout[0][1] == ("id", str(number))
    assert len(parser._ids) < 2500


def test_metadata_are_told_when_new_or_changed() -> None:
    parser = ScrapeParser()
    page = b"# HELP a_total What\\nfor \\\\.\n# TYPE a_total counter\n# a remark\na_total 1\n# TYPE b untyped\nb 1\n"
    assert parser.parse(page).metadata == (
        Metadata("a_total", "counter", "What\nfor \\.", ""),
        Metadata("b", "unknown", "", ""),
    )
    assert parser.parse(page).metadata == ()
    assert parser.parse(page.replace(b"untyped", b"gauge")).metadata == (Metadata("b", "gauge"),)


def test_finish_is_applied_to_each_new_series_once() -> None:
    seen: list[Labels] = []

    def finish(labels: Labels) -> Labels:
        seen.append(labels)
        return from_mapping({**dict(labels), "job": "x"})

    parser = ScrapeParser(finish)
    for _ in range(3):
        scrape = parser.parse(b"a 1\n")
    assert scrape.layout == ((("__name__", "a"), ("job", "x")),)
    assert len(seen) == 1


OPENMETRICS_PAGE = b"""# TYPE http_seconds histogram
# UNIT http_seconds seconds
# HELP http_seconds "How" long.
http_seconds_bucket{le="0.1"} 8 # {trace_id="a # }b"} 0.054 1520879607.7
http_seconds_bucket{le="+Inf"} 10
http_seconds_count 10
http_seconds_sum 3.5
# TYPE jobs counter
jobs_total 17.0 # {id="1"} 1
jobs_created 1520430000.123
# EOF
"""


def test_openmetrics_reads_as_prometheus_client_reads_it() -> None:
    scrape = ScrapeParser().parse(OPENMETRICS_PAGE, OPENMETRICS)
    assert scrape.errors == ()
    theirs = {
        from_mapping({"__name__": sample.name, **sample.labels}): sample.value
        for family in openmetrics_families(OPENMETRICS_PAGE.decode())
        for sample in family.samples
    }
    assert dict(zip(scrape.layout, scrape.values.tolist(), strict=True)) == theirs
    assert scrape.metadata[0] == Metadata("http_seconds", "histogram", '"How" long.', "seconds")


def test_an_openmetrics_page_without_its_end_was_cut_short() -> None:
    scrape = ScrapeParser().parse(b"a 1\n", OPENMETRICS)
    assert scrape.values.tolist() == [1.0]
    assert "cut short" in scrape.errors[0].reason


def test_nothing_counts_after_the_end_of_an_openmetrics_page() -> None:
    parser = ScrapeParser()
    for _ in range(2):
        scrape = parser.parse(b"a 1\n# EOF\na 2\nb 3\n", OPENMETRICS)
        assert scrape.values.tolist() == [1.0]
        assert [error.line for error in scrape.errors] == [3, 4]


def test_the_plain_reader_raises_at_the_first_bad_line() -> None:
    with pytest.raises(ExpositionError, match=r"line 2: .*'two' is not a number"):
        parse_text(b"a 1\nb two\n")


def test_exemplars_stand_by_the_place_of_their_sample() -> None:
    parser = ScrapeParser()
    page = b"""# TYPE d histogram
d_bucket{le="1"} 3 # {trace_id="ab"} 0.5 1700000000.25
d_bucket{le="+Inf"} 4
d_bucket{le="+Inf"} 4 # {trace_id="twin"} 1
d_count 4 # {} 2
# EOF
"""
    for _ in range(2):
        read = parser.parse(page, "application/openmetrics-text")
        assert read.exemplars == {
            0: PageExemplar((("trace_id", "ab"),), 0.5, 1_700_000_000_250),
            2: PageExemplar((), 2.0, None),
        }
        assert read.values.tolist() == [3.0, 4.0, 4.0]


@pytest.mark.parametrize("exemplar", ['{a="b"', "{} x", "{} 1 1e300", '{a="b",a="c"} 1', "{} 1 2 3"])
def test_a_line_with_a_broken_exemplar_is_named_and_left_out(exemplar: str) -> None:
    page = f"a_total 1 # {exemplar}\nb_total 2\n# EOF\n".encode()
    read = ScrapeParser().parse(page, "application/openmetrics-text")
    assert [error.line for error in read.errors] == [1]
    assert read.exemplars == {}
    assert [dict(labels)["__name__"] for labels in read.layout] == ["b_total"]


def test_a_line_of_very_many_labels_is_read_in_one_go() -> None:
    many = ",".join(f'l{number}="x"' for number in range(100_000))
    ((labels, value),) = parse_text(f"a{{{many}, }} 1\n".encode())
    assert (len(labels), value) == (100_001, 1.0)


def test_what_is_said_of_a_bad_line_is_short_however_long_the_line() -> None:
    page = b"a{" + b"!" * 100_000 + b"} 1\na " + b"x" * 100_000 + b"\n"
    errors = ScrapeParser().parse(page).errors
    assert [error.line for error in errors] == [1, 2]
    assert all(len(str(error)) < 600 for error in errors)


exemplar_lines = st.lists(
    st.builds(
        lambda name, label, value, exemplar: f'{name}{{l="{label}"}} {value}{exemplar}',
        st.sampled_from(["a_total", "b_total"]),
        st.sampled_from(["x", " # {", "}", ""]),
        st.sampled_from(["1", "2.5", "NaN", "x", ""]),
        st.sampled_from(["", ' # {t="1"} 1', ' # {t=" # {"} 2 3', " # {} x", " 7 # {} 1", " # {"]),
    ),
    max_size=6,
)


@given(st.lists(exemplar_lines, max_size=4))
def test_a_reader_reads_exemplars_the_same_whatever_it_has_read_before(pages: list[list[str]]) -> None:
    used = ScrapeParser()
    for lines in pages:
        page = "\n".join([*lines, "# EOF"]).encode()
        once, fresh = used.parse(page, OPENMETRICS), ScrapeParser().parse(page, OPENMETRICS)
        assert once.layout == fresh.layout
        np.testing.assert_array_equal(once.values, fresh.values)
        assert once.exemplars == fresh.exemplars
        assert once.timestamps_ms == fresh.timestamps_ms
        assert [error.line for error in once.errors] == [error.line for error in fresh.errors]
