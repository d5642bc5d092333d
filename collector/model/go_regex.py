"""Go's regular expressions (RE2) in Python's notation, as far as the two differ in practice.

Handled: inline flags in the middle of a group, ``((?i)abc)``; ``(?<name>..)``; ``\\z``; ``\\Q..\\E``; POSIX classes
such as ``[[:alpha:]]``. Left as they are: Unicode classes (``\\pL``), which Python's ``re`` refuses with an error.
"""

import re

_FLAGS = re.compile(r"\(\?([ims]*(?:-[ims]+)?)\)")
_QUOTED = re.compile(r"\\Q(.*?)(?:\\E|$)", re.DOTALL)
_POSIX = {
    "[:alnum:]": "0-9A-Za-z", "[:alpha:]": "A-Za-z", "[:digit:]": "0-9", "[:lower:]": "a-z", "[:upper:]": "A-Z",
    "[:space:]": r"\t\n\v\f\r ", "[:word:]": "0-9A-Za-z_", "[:xdigit:]": "0-9A-Fa-f",
}  # fmt: skip


def compile_go_regex(pattern: str) -> re.Pattern[str]:
    """Compile a Go pattern, not anchored, with ``.`` matching newlines; raises ``re.error`` where Python cannot."""
    return re.compile(f"(?:{to_python(pattern)})", re.DOTALL)


def to_python(pattern: str) -> str:
    """``pattern`` as Python's ``re`` reads it."""
    pattern = _QUOTED.sub(lambda match: re.escape(match[1]), pattern)
    out: list[str] = []
    scoped = [0]
    position = 0
    while position < len(pattern):
        char = pattern[position]
        flags = _FLAGS.match(pattern, position)
        if flags:
            out.append(f"(?{flags[1]}:" if flags[1] else "(?:")
            scoped[-1] += 1
            position = flags.end()
            continue
        if char == "\\":
            out.append(r"\Z" if pattern[position : position + 2] == r"\z" else pattern[position : position + 2])
            position += 2
            continue
        if char == "[":
            text, position = _character_class(pattern, position)
            out.append(text)
            continue
        if char == "(":
            scoped.append(0)
            if pattern.startswith("(?<", position) and pattern[position + 3 : position + 4] not in ("=", "!"):
                out.append("(?P<")
                position += 3
                continue
        elif char == ")" and len(scoped) > 1:
            out.append(")" * scoped.pop())
        out.append(char)
        position += 1
    out.append(")" * scoped[0])
    return "".join(out)


def _character_class(pattern: str, start: int) -> tuple[str, int]:
    """The class that opens at ``start`` and the position behind it."""
    end = start + 1
    if pattern[end : end + 1] == "^":
        end += 1
    if pattern[end : end + 1] == "]":
        end += 1
    while end < len(pattern) and pattern[end] != "]":
        if pattern.startswith("[:", end) and ":]" in pattern[end:]:
            end = pattern.index(":]", end) + 2
        else:
            end += 2 if pattern[end] == "\\" else 1
    text = pattern[start : end + 1]
    for posix, ascii_range in _POSIX.items():
        text = text.replace(posix, ascii_range)
    return text[0] + text[1:].replace("[", r"\[").replace(r"\\[", r"\["), end + 1
