"""The effective value of each option, and where it comes from: the command line, the environment,
the configuration file or the default, in this order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rqdisco.service.option_table import OPTIONS, Option

COMMAND_LINE = "command line"

# Of a list its elements, of a flag yes or no.
Value = str | tuple[str, ...]


class Setting(NamedTuple):
    """A value of an option, None if it has none; `source` says where it comes from, None for the
    default.
    """

    value: Value | None
    source: str | None


def resolve(
    given: Mapping[str, Value], environment: Mapping[str, str], file: Mapping[str, Setting]
) -> dict[str, Setting]:
    """Return the setting of each option. An empty variable counts as not set."""
    return {name: _resolve(option, given, environment, file) for name, option in OPTIONS.items()}


def config_file(given: Mapping[str, Value], environment: Mapping[str, str]) -> str | None:
    """Return the path of the configuration file, None if there is none."""
    path = resolve(given, environment, {})["config"].value
    return path if isinstance(path, str) else None


def values_of(settings: Mapping[str, Setting]) -> dict[str, Value | None]:
    """Return the values alone."""
    return {name: setting.value for name, setting in settings.items()}


def name_source(error: str, settings: Mapping[str, Setting]) -> str:
    """Return an error about an option, `NAME: REASON`, with the place that the value is from."""
    name, colon, reason = error.partition(":")
    setting = settings.get(name)
    if setting is None or setting.source in (None, COMMAND_LINE):
        return error
    return f"{name} ({setting.source}){colon}{reason}"


def _resolve(
    option: Option, given: Mapping[str, Value], environment: Mapping[str, str], file: Mapping[str, Setting]
) -> Setting:
    if option.name in given:
        return Setting(given[option.name], COMMAND_LINE)
    if text := environment.get(option.variable):
        words = tuple(text.split())
        if option.kind != "list":
            return Setting(text, option.variable)
        if words:
            return Setting(words, option.variable)
    if option.name in file:
        return file[option.name]
    default: Value | None = option.default
    if option.kind == "list":
        default = () if option.default is None else (option.default,)
    elif option.kind == "flag":
        default = "no"
    return Setting(default, None)
