"""Which languages there are, which one a request wants, and how a text is said in it.

English is what the code is written in; every other language is a file beside this one, from English to its own words.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs

import orjson
from werkzeug.datastructures import LanguageAccept

from dashboard.words.said import Said

LANGUAGES: Mapping[str, str] = {"en": "English", "zh": "中文"}
"""Code and own name of each."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The texts of ``language`` by their English; what it lacks stays as it is."""

    language: str
    texts: Mapping[str, str] = field(default_factory=dict)

    def of(self, text: str) -> str:
        """``text`` in this language: a composed one by its sentence, any other by its whole."""
        if not self.texts:
            return str(text)
        if not isinstance(text, Said):
            return self.texts.get(text, text)
        parts = {name: self.of(part) if isinstance(part, str) else part for name, part in text.parts.items()}
        return self.texts.get(text.template, text.template).format_map(parts)

    def pairs(self, texts: Sequence[str]) -> dict[str, str]:
        """Those of ``texts`` that it has other words for, as the browser's scripts look them up."""
        return {text: self.texts[text] for text in texts if text in self.texts}


ENGLISH = Catalogue("en")


@cache
def catalogues() -> dict[str, Catalogue]:
    """Every language by its code."""
    folder = Path(__file__).parent
    others = {code: orjson.loads((folder / f"{code}.json").read_bytes()) for code in LANGUAGES if code != "en"}
    return {"en": ENGLISH} | {code: Catalogue(code, texts) for code, texts in others.items()}


def texts_of_scripts(folder: Path) -> tuple[str, ...]:
    """What the scripts in ``folder`` say through ``words('...')``, or hand on to what does (``copied``)."""
    scripts = "".join(path.read_text("utf-8") for path in sorted(folder.glob("*.js")))
    said = re.findall(r"words\('([^']*)'|, '(\w+ copied)'\)", scripts)
    return tuple(dict.fromkeys(direct or copied for direct, copied in said))


def chosen(search: str, cookie: str, accepted: LanguageAccept) -> str:
    """The language of a request: what its address names (``?lang=zh``), else what was chosen before (``cookie``), else
    what the browser prefers."""
    named = parse_qs(search.lstrip("?")).get("lang", [""])[-1]
    for code in (named, cookie):
        if code in LANGUAGES:
            return code
    preferred = (tag.split("-")[0].lower() for tag, _ in accepted)
    return next((code for code in preferred if code in LANGUAGES), "en")
