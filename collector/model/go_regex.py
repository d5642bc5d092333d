"""Go's regular expressions, linear in the text whatever the pattern: by RE2, the engine that Go's is made of.

Python's own engine takes exponential time on patterns such as ``(a+)+b``, and anyone who may query may send one. RE2
reads what Go reads. For short texts and patterns that mean the same in both and cannot run away, Python's engine is
used, which is twenty times as fast for each call.
"""

import re
from typing import cast

import re2

_SHORT = 1000
"""Characters up to which Python's engine is trusted with a harmless pattern."""

_HARMLESS = re.compile(
    r"""(?: [a-zA-Z0-9_\-.:/,@=|%&~\#<>;'!\ ]  |  [*+?](?![*+?])  |  \\[.\-/+*?|()\[\]{}^$\\dwDW]
          | \[\^?(?!-)[a-zA-Z0-9_.:/\ \-]+\]   |  \((?!\?)        |  \)(?![*+?{])  )*""",
    re.VERBOSE,
)
"""No repeated group, no flags, no anchors, nothing that the two engines read differently."""

_UNBOUNDED = 2
"""Times that ``*`` or ``+`` may occur in a harmless pattern."""


class GoPattern:
    """A compiled pattern, in which ``.`` matches newlines. Raises ``re.error`` where Go would not compile it."""

    def __init__(self, pattern: str) -> None:
        options = re2.Options()
        options.dot_nl = True
        options.log_errors = False
        try:
            self._linear = re2.compile(pattern, options)
        except (re2.error, UnicodeEncodeError) as error:
            reason = error.args[0].decode(errors="replace") if isinstance(error, re2.error) else str(error)
            raise re.error(reason, pattern) from error
        unbounded = pattern.count("*") + pattern.count("+")
        harmless = unbounded <= _UNBOUNDED and "--" not in pattern and _HARMLESS.fullmatch(pattern)
        self._quick = re.compile(f"(?:{pattern})", re.DOTALL | re.ASCII) if harmless else None

    def fullmatch(self, text: str) -> re.Match[str] | None:
        """The match of all of ``text``; groups are read by ``match[number]`` or ``match[name]``."""
        if self._quick is not None and len(text) <= _SHORT:
            return self._quick.fullmatch(text)
        return cast("re.Match[str] | None", self._linear.fullmatch(text.encode(errors="replace").decode()))


def compile_go_regex(pattern: str) -> GoPattern:
    """Compile a Go pattern, not anchored; raises ``re.error`` where Go would not."""
    return GoPattern(pattern)
