"""Conversations as text: ShareGPT's ``conversations`` and chat datasets' ``messages``, an array or one object a line.

Texts have no lengths until a tokenizer counts them, so one is needed. Every answer is a request whose prompt is the
conversation so far; roles and template tokens are not counted, which is said. There are no arrivals.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from planner.errors import TraceError
from planner.readers.lines import BadRow
from planner.readers.objects import Object, group_chunks
from planner.readers.row import Chunk, Row
from planner.readers.source import Source
from planner.readers.stream import Format
from planner.readers.values import text_or_none

_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant"}
_ROLES |= {role: role for role in ("user", "assistant", "system", "tool")}
Count = Callable[[str], int]


def _chunks(source: Source) -> Iterator[Chunk]:
    if source.tokenizer is None:
        raise TraceError(
            f"{source.path}: holds conversations as text, without token counts; name a tokenizer.json with --tokenizer"
        )
    count = _counter(source.tokenizer)
    source.remark("prompt lengths leave out what a chat template adds")
    return group_chunks(source, lambda found, _: _turns(found, count))


def _counter(path: Path) -> Count:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise TraceError("texts are counted by the package tokenizers: pip install 'loadline[engine]'") from error
    try:
        tokenizer: Any = Tokenizer.from_file(str(path))
    except Exception as error:
        raise TraceError(f"{path}: is no tokenizer.json: {error}") from error
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))


def _turns(found: Object, count: Count) -> Iterable[Row | BadRow]:
    said = found.get("conversations", found.get("messages"))
    if not isinstance(said, list):
        raise BadRow("no_conversation")
    session = text_or_none(found.get("id"))
    history: list[dict[str, str]] = []
    tokens, turn = 0, 0
    for one in said:
        role, text = _said(one)
        length = count(text)
        if role == "assistant" and history:
            more = {
                "session_id": session,
                "turn": turn,
                "context_mode": "full",
                "messages": orjson.dumps(history).decode(),
            }
            yield Row(None, tokens, length, more)
            turn += 1
        history.append({"role": role, "content": text})
        tokens += length


def _said(one: object) -> tuple[str, str]:
    if not isinstance(one, dict):
        raise BadRow("not_an_object")
    role = _ROLES.get(str(one.get("from", one.get("role"))))
    text = one.get("value", one.get("content"))
    if role is None:
        raise BadRow("unknown_role")
    if not isinstance(text, str):
        raise BadRow("text_is_no_text")
    return role, text


FORMAT = Format(
    name="sharegpt",
    what="ShareGPT or chat JSON (conversations, or messages; needs a tokenizer)",
    sniff=lambda head: head.has("conversations") or (head.keys <= {"id", "messages"} and head.has("messages")),
    chunks=_chunks,
    needs=("conversations",),
    draws=True,
)
