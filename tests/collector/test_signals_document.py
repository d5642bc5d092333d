import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.signals import DocumentError, parse_document


def test_a_value_knows_its_place_and_how_it_was_written():
    root = parse_document("a:\n  - b: 007\n    c: true\n", "f.yaml")
    first = root.mapping("root")["a"].sequence("a")[0]
    assert (first.need("b", "item").value, first.need("b", "item").string("b")) == (7, "007")
    assert (first.need("c", "item").line, first.need("c", "item").column) == (3, 8)
    assert [(key.text, key.line, key.column) for key in first.keys] == [("b", 2, 5), ("c", 3, 5)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\na: 2\n", "f.yaml:2:1: field 'a' appears twice"),
        ("{[1]: 2}", "f.yaml:1:2: a field's name must be a text"),
        ("a: [\n", "not YAML"),
        ("a: *b\n", "f.yaml:1:4: not YAML: found undefined alias 'b'"),
        ("a: &a [*a]\n", "f.yaml:1:4: an alias refers to the value that holds it"),
        ("a: !!python/object:os.system x\n", "not YAML: could not determine a constructor"),
        ("a: 2026-13-45\n", "cannot be read"),
        ("\x00", "not YAML"),
        ("[" * 101, "f.yaml:1:101: nested too deeply: more than 100 levels"),
        ("[" * 200_000, "f.yaml:1:101: nested too deeply"),
        ("- " * 50_000 + "x", "f.yaml:1:201: nested too deeply"),
        ("a: \ud800", "not YAML"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(text: str, reason: str):
    with pytest.raises(DocumentError) as caught:
        parse_document(text, "f.yaml")
    assert str(caught.value).startswith("f.yaml:")
    assert reason in str(caught.value)


def test_a_hundred_levels_are_read():
    assert parse_document("[" * 100 + "]" * 100, "f.yaml").sequence("root")


def test_aliases_of_aliases_cost_no_more_than_what_they_name():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 30)]
    root = parse_document("\n".join(lines), "f.yaml")
    last = root.mapping("root")["a29"].sequence("a29")
    assert all(item is last[0] for item in last)


@given(st.text(max_size=120) | st.text(alphabet="ab:- \n[]{}&*!|>'\"#%,?", max_size=120))
def test_any_text_is_read_or_refused(text: str):
    try:
        parse_document(text, "f.yaml")
    except DocumentError as error:
        assert error.line >= 1
