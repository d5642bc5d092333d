"""String literals of PromQL: Go's escapes in quotes, nothing escaped between backticks."""

import re

_ESCAPE = re.compile(
    r"(?P<bytes>(?:\\x[0-9a-fA-F]{2}|\\[0-7]{3})+)|\\u(?P<u>[0-9a-fA-F]{4})|\\U(?P<U>[0-9a-fA-F]{8})|\\(?P<one>.)",
    re.DOTALL,
)
_SINGLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}


def unquote(literal: str) -> str:
    """What a literal stands for; raises ValueError for an escape that Go doesn't know.

    Bytes that are not UTF-8 become the replacement character.
    """
    mark, body = literal[0], literal[1:-1]
    if mark == "`" or "\\" not in body:
        return body

    def replace(match: re.Match[str]) -> str:
        if match["bytes"]:
            codes = [int(part[1:], 16) if part[0] == "x" else int(part, 8) for part in match["bytes"].split("\\")[1:]]
            if max(codes) > 0xFF:
                raise ValueError(f"invalid syntax in {literal}")
            return bytes(codes).decode(errors="replace")
        if code := match["u"] or match["U"]:
            number = int(code, 16)
            if number > 0x10FFFF or 0xD800 <= number < 0xE000:
                raise ValueError(f"invalid syntax in {literal}")
            return chr(number)
        one = match["one"]
        if one == mark:
            return mark
        if one not in _SINGLE:
            raise ValueError(f"invalid syntax in {literal}")
        return _SINGLE[one]

    return _ESCAPE.sub(replace, body)
