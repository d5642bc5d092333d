"""Stop texts are found wherever they lie, and nothing but what may begin one is held back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe_engine.runtime.stop import StopText


def fed(pieces: list[str], stops: list[str]) -> tuple[str, str | None]:
    watch = StopText(stops)
    out = ""
    for piece in pieces:
        out += watch.push(piece)
        if watch.matched is not None:
            return out, watch.matched
    return out + watch.flush(), None


@given(st.lists(st.text("ab.", max_size=4)), st.lists(st.text("ab.", min_size=1, max_size=4), min_size=1, max_size=3))
def test_the_output_ends_before_the_first_stop_however_the_text_is_cut(pieces: list[str], stops: list[str]):
    text = "".join(pieces)
    out, matched = fed(pieces, stops)
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    if matched is None:
        assert not ends
        assert out == text
    else:
        assert matched in stops
        assert text.startswith(out + matched)
        assert not any(stop in out for stop in stops)


@pytest.mark.parametrize(
    ("text", "now"), [("abc", "abc"), ("abEN", "ab"), ("abE", "ab"), ("ENx", "ENx"), ("EENE", "EEN")]
)
def test_only_what_may_begin_a_stop_is_held_back(text: str, now: str):
    assert StopText(["END"]).push(text) == now
