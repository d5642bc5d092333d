"""The catalogue of responses: what a rule may name, how far each may go by itself, and how often."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from collector.model.durations import SHAPE, parse_duration_ms
from collector.model.errors import ConfigError
from collector.model.settings_file import read_settings

Action = Literal["limits", "breaker", "drain", "restart", "batch", "traffic"]
Mode = Literal["automatic", "assisted", "human"]

MODES: tuple[Mode, ...] = ("automatic", "assisted", "human")
"""From the boldest to the most careful."""


def _duration(text: str) -> str:
    if parse_duration_ms(text) is None:
        raise ValueError(f"must be a duration; {SHAPE}")
    return text


class Entry(BaseModel):
    """One response that a rule may name; what each field means to its action is in the package's README.

    share: of what is set or runs. set: limits by name. weights: of the gateway's replicas, by URL.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Action
    mode: Mode = "assisted"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    set: dict[str, float | None] = Field(default_factory=dict)
    max_num_seqs: Annotated[int, Field(ge=1)] | None = None
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    least_left: Annotated[int, Field(ge=0)] = 1
    cool_down: Annotated[str, AfterValidator(_duration)] = "10m"
    most_per_hour: Annotated[int, Field(ge=1)] = 6
    undo_on_resolve: bool = True

    @property
    def cool_down_s(self) -> float:
        """``cool_down`` in seconds."""
        return (parse_duration_ms(self.cool_down) or 0) / 1000


Catalogue = Mapping[str, Entry]

STANDING: Catalogue = {
    "tighten_limits": Entry(action="limits"),
    "open_breaker": Entry(action="breaker"),
    "drain_replica": Entry(action="drain"),
    "restart_replica": Entry(action="restart"),
    "drop_batch_size": Entry(action="batch"),
    "switch_traffic": Entry(action="traffic"),
}
"""What there is without a file: nothing of it acts unasked."""


def read_catalogue(path: Path | None) -> Catalogue:
    """The standing entries, with those of the TOML file at ``path`` in their place or beside them.

    An entry with a standing one's name has its action where it gives none. Raises ConfigError.
    """
    if path is None:
        return STANDING
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    models = {name: _model(name) for name in tables}
    read = read_settings(path, models)
    return {**STANDING, **{name: Entry.model_validate(entry.model_dump()) for name, entry in read.items()}}


def careful(entry: Entry, wished: str | None) -> Mode:
    """The more careful of what the entry allows and what the rule wishes; what cannot be read wishes nothing bold."""
    if wished is None:
        return entry.mode
    wish = MODES.index(wished) if wished in MODES else len(MODES) - 1
    return MODES[max(MODES.index(entry.mode), wish)]


def _model(name: str) -> type[Entry]:
    """Entry, with the action of the standing entry of this name as its default."""
    standing = STANDING.get(name)
    if standing is None:
        return Entry
    fields = {"__annotations__": {"action": Action}, "action": standing.action, "__module__": __name__}
    return type("Entry", (Entry,), fields)
