"""Read a TOML settings file into one validated object per section, with errors that name file, line and field."""

import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from collector.model.errors import ConfigError


def read_settings(path: Path | None, sections: Mapping[str, type[BaseModel]]) -> dict[str, BaseModel]:
    """Validate every section of the file at ``path``; a missing section (or no file) means its defaults.

    Raises ConfigError; its message has one line per fault: ``FILE:LINE: section.field is VALUE; what is allowed``.
    """
    text = "" if path is None else _read(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    faults = [
        f"{path}:{_line_of(text, name)}: [{name}] is no section; {_suggest(name, sections)}"
        for name in document
        if name not in sections
    ]
    settings: dict[str, BaseModel] = {}
    for name, model in sections.items():
        try:
            settings[name] = model.model_validate(document.get(name, {}))
        except ValidationError as error:
            faults += [f"{path}:{_fault(text, name, model, detail)}" for detail in error.errors()]
    if faults:
        raise ConfigError("\n".join(faults))
    return settings


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def _fault(text: str, section: str, model: type[BaseModel], detail: ErrorDetails) -> str:
    keys = [str(key) for key in detail["loc"]]
    field = ".".join([section, *keys])
    line = _line_of(text, section, keys[0] if keys else None)
    if detail["type"] == "extra_forbidden":
        return f"{line}: {field} is no setting; {_suggest(keys[-1], model.model_fields)}"
    return f"{line}: {field} is {_show(detail['input'])}; {detail['msg'][0].lower()}{detail['msg'][1:]}"


def _show(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _suggest(name: str, allowed: Mapping[str, object]) -> str:
    close = get_close_matches(name, allowed, n=1)
    return f"did you mean {close[0]}?" if close else f"allowed: {', '.join(sorted(allowed))}"


def _line_of(text: str, section: str, key: str | None = None) -> int:
    """1-based line of ``key`` in ``[section]``, or of the section's head; 1 where neither is written plainly."""
    found = 1
    current = None
    for number, line in enumerate(text.splitlines(), start=1):
        if head := re.match(r"\s*\[+\s*([\w.-]+)\s*\]+", line):
            current = head[1]
            if current == section:
                found = number
        elif current == section and key is not None and re.match(rf"\s*{re.escape(key)}\s*=", line):
            return number
    return found
