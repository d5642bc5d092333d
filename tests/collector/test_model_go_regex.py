import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.model.go_regex import compile_go_regex

PIECES = st.sampled_from(
    ["a", "b", "ab", ".", ".*", ".+", "a?", "|", "(a|b)", "[ab]", "[^a-c]", r"\.", r"\d", "x-y", "1"]
)


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("a|b", "b", True),
        ("a|b", "ab", False),
        (".*", "a\nb", True),
        ("(?i)ABC", "abc", True),
        ("a(?i:B)c", "abc", True),
        (r"\pL+", "é", True),
        (r"\d", "٣", False),
        (r"[[:alpha:]]+", "abc", True),
        (r"\Qa.b\E", "a.b", True),
        (r"\Qa.b\E", "axb", False),
        (r"(?<year>\d{4})", "2026", True),
        ("a$", "a\n", False),
        ("", "", True),
    ],
)
def test_a_pattern_means_what_it_means_in_go(pattern: str, text: str, matches: bool) -> None:
    assert (compile_go_regex(pattern).fullmatch(text) is not None) == matches


@pytest.mark.parametrize("pattern", ["(", "a{2,1}", "(?=a)", r"(a)\1", "a**", "[z-a]", "\ud800"])
def test_what_go_does_not_compile_is_an_error(pattern: str) -> None:
    with pytest.raises(re.error):
        compile_go_regex(pattern)


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|aa)*c", "(.*)*x", "(a*)*(a*)*(a*)*b", ".*.*.*.*=.*b"])
def test_no_pattern_takes_forever(pattern: str) -> None:
    assert compile_go_regex(pattern).fullmatch("a" * 50_000) is None


def test_groups_are_read_by_number_and_name() -> None:
    match = compile_go_regex(r"(?P<first>\w+)-(\d+)(x)?").fullmatch("ab-12")
    assert match is not None
    assert (match["first"], match[2], match[3]) == ("ab", "12", None)
    with pytest.raises(IndexError):
        match[7]


@given(st.lists(PIECES, max_size=4).map("".join), st.text("abc.1x-y|\n", max_size=8))
def test_both_engines_find_the_same(pattern: str, text: str) -> None:
    short = compile_go_regex(pattern)
    linear = compile_go_regex(f"(?:{pattern}){{1}}")
    assert short.fullmatch(text) is None or linear.fullmatch(text) is not None
    assert (short.fullmatch(text) is None) == (linear.fullmatch(text) is None)
