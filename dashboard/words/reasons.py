"""Why a signal cannot be had, as ``collector.signals`` puts it in English, taken apart so that it can be translated.

A sentence that a dialect writes about its own engine stays whole, and is looked up as such.
"""

import re

from dashboard.words.said import say

TEMPLATES = (
    "not exposed: {reason}",
    "switched off: {reason}",
    "nothing in the source ({engines}) exposes {what}",
    "{engine} exposes {metric} only with {flag}",
    "{engine} exposes {metric} since {version}; this source holds no such series",
    "{engine} exposes {metric}; this source holds no such series",
)


def said_reason(reason: str) -> str:
    """``reason`` as a text that another language can say."""
    for template in TEMPLATES:
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+?)", re.escape(template))
        if (found := re.fullmatch(pattern, reason)) is not None:
            return say(template, **{name: said_reason(part) for name, part in found.groupdict().items()})
    return reason
