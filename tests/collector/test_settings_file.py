"""Settings files: every fault is one line that names file, line, field, value and remedy."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from collector.model.errors import ConfigError
from collector.model.settings_file import read_settings


class Door(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    port: int = Field(8000, ge=1, le=65535)
    host: str = "127.0.0.1"


def read(tmp_path: Path, text: str) -> dict[str, BaseModel]:
    path = tmp_path / "loadline.toml"
    path.write_text(text)
    return read_settings(path, {"engine": Door, "collector": Door})


def test_no_file_means_defaults():
    assert read_settings(None, {"engine": Door}) == {"engine": Door()}


def test_a_section_overrides_only_what_it_names(tmp_path):
    assert read(tmp_path, "[engine]\nport = 9000\n") == {"engine": Door(port=9000), "collector": Door()}


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_setting(tmp_path):
    with pytest.raises(ConfigError, match=r"loadline\.toml:3: engine\.prot is no setting; did you mean port\?$"):
        read(tmp_path, '[engine]\nhost = "x"\nprot = 9000\n')


def test_an_unknown_section_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"loadline\.toml:1: \[motor\] is no section; allowed: collector, engine$"):
        read(tmp_path, "[motor]\nport = 1\n")


def test_a_value_of_the_wrong_type_is_shown_beside_what_is_allowed(tmp_path):
    with pytest.raises(ConfigError, match=r'toml:2: engine\.port is "ninety"; input should be a valid integer'):
        read(tmp_path, '[engine]\nport = "ninety"\n')


def test_every_fault_is_reported_at_once(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, "[engine]\nport = 0\n[collector]\nport = 70000\n")
    assert len(str(caught.value).splitlines()) == 2


def test_text_that_is_no_toml_says_where(tmp_path):
    with pytest.raises(ConfigError, match=r"not TOML: .*line 1"):
        read(tmp_path, "[engine\n")


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read"):
        read_settings(tmp_path / "absent.toml", {"engine": Door})
