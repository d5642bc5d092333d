"""Texts that are not shown, and the files that hold them."""

from dataclasses import dataclass, field
from pathlib import Path

from collector.model.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that is not shown, or the file that holds it."""

    text: str = field(default="", repr=False)
    file: Path | None = None

    def read(self) -> str:
        """The text now; ConfigError where its file cannot be read."""
        if self.file is None:
            return self.text
        try:
            return self.file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.file}: cannot be read: {error}") from error
