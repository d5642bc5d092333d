"""Every command and option explains itself, and every setting is a flag and an environment variable."""

from collections.abc import Iterator
from importlib import import_module

import pytest
import typer
from typer.main import get_command

import loadline

SETTINGS = {
    "engine": ("probe_engine.settings", "EngineSettings"),
    "collector": ("collector.settings", "CollectorSettings"),
    "alerts": ("alerts.settings", "AlertsSettings"),
    "dashboard": ("dashboard.settings", "DashboardSettings"),
}


def commands(command, path: str) -> Iterator[tuple[str, object]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
    else:
        for name, child in children.items():
            yield from commands(child, f"{path} {name}")


def part_app(name: str) -> typer.Typer:
    part = loadline.PARTS[name]
    app: typer.Typer = getattr(import_module(part.module), part.attribute)
    return app


def all_commands() -> list[tuple[str, object]]:
    found = list(commands(get_command(loadline.compose(None)), "loadline"))
    for name in loadline.PARTS:
        found += commands(get_command(part_app(name)), f"loadline {name}")
    return found


@pytest.mark.parametrize("name", loadline.PARTS)
def test_a_part_stands_in_the_front_doors_help(name: str):
    assert name in get_command(loadline.compose(None)).commands


@pytest.mark.parametrize(("path", "command"), all_commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_and_option_has_help(path: str, command):
    assert command.help, f"{path} has no help"
    silent = [
        parameter.name
        for parameter in command.params
        if not getattr(parameter, "help", None) and parameter.name != "help"
    ]
    assert not silent, f"{path}: no help for {silent}"


@pytest.mark.parametrize(("path", "command"), all_commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_option_has_its_environment_variable(path: str, command):
    missing = [
        parameter.name
        for parameter in command.params
        if parameter.param_type_name == "option"
        and not parameter.envvar
        and parameter.name not in {"help", "version", "json", "as_json", "json_output"}
    ]
    assert not missing, f"{path}: no environment variable for {missing}"


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_of_a_server_is_an_option_with_the_matching_variable(name: str):
    module, model = SETTINGS[name]
    fields = set(getattr(import_module(module), model).model_fields)
    serve = get_command(part_app(name)).commands["serve"]
    variables = {
        variable
        for parameter in serve.params
        for variable in ([parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or [])
    }
    assert {f"LOADLINE_{name}_{field}".upper() for field in fields} <= variables
