"""The commands `rqdisco config check` and `show`: what a daemon with this environment would do with
a configuration file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from twisted.python import usage

from rqdisco.core.errors import UnprotectedListener
from rqdisco.service.config import Config
from rqdisco.service.config_file import BadConfigFile, read_config_file
from rqdisco.service.configuration import build_config
from rqdisco.service.endpoint_hints import why_no_endpoint
from rqdisco.service.option_table import TOPICS, Option
from rqdisco.service.option_values import mask_password
from rqdisco.service.reachability import check_endpoint, check_protected
from rqdisco.service.settings import Setting, Value, config_file, name_source, resolve, values_of

_DIRECTORY = "rqdisco-data"


def check(file: Path, environment: Mapping[str, str]) -> list[str]:
    """Return the problems for which a daemon refuses the file, none if it would start."""
    try:
        settings = _settings(file, environment)
    except BadConfigFile as error:
        return list(error.problems)
    try:
        return _endpoint_problems(build_config(values_of(settings), environment, _DIRECTORY), settings)
    except usage.UsageError as error:
        return [name_source(str(error), settings)]


def show_text(file: Path | None, environment: Mapping[str, str]) -> str:
    """Return every option with its value and source, in the format of the configuration file.
    Raises BadConfigFile.
    """
    settings = _settings(file, environment)
    return "\n\n".join(
        "\n".join([f"# {topic.title}", *(_line(option, settings[option.name]) for option in topic.options)])
        for topic in TOPICS
    )


def show_json(file: Path | None, environment: Mapping[str, str]) -> str:
    """Return every option with its value and source as one JSON object. Raises BadConfigFile."""
    settings = _settings(file, environment)
    shown = {
        name: {"value": _masked(setting.value), "source": setting.source or "default"}
        for name, setting in settings.items()
    }
    return json.dumps(shown, indent=2)


def _settings(file: Path | None, environment: Mapping[str, str]) -> dict[str, Setting]:
    """Return the settings of a daemon that is started with `--config FILE`. Raises BadConfigFile."""
    given: dict[str, Value] = {} if file is None else {"config": str(file)}
    path = config_file(given, environment)
    return resolve(given, environment, {} if path is None else read_config_file(Path(path)))


def _endpoint_problems(config: Config, settings: Mapping[str, Setting]) -> list[str]:
    """Return what is wrong with the endpoints, as far as it shows on any machine."""
    endpoints = [
        *(("listen", each) for each in config.listen),
        *(("metrics-listen", each) for each in config.metrics_listen),
        *(("peer-listen", each) for each in (() if config.peers is None else config.peers.listen)),
    ]
    problems = []
    for option, endpoint in endpoints:
        try:
            _check_endpoint(config, option, endpoint)
        except UnprotectedListener as error:
            problems.append(name_source(f"{option}: {error}", settings))
        except Exception as error:
            # Each kind of endpoint raises its own errors for a description it cannot parse.
            problems.append(name_source(f"{option}: {endpoint}: {why_no_endpoint(endpoint, error)}", settings))
    return problems


def _check_endpoint(config: Config, option: str, endpoint: str) -> None:
    """Raise UnprotectedListener, or an error of any kind if the description is invalid."""
    if endpoint.startswith("systemd:"):
        # systemd passes its sockets to the daemon alone.
        return
    check_endpoint(endpoint)
    if option == "listen" and not (config.is_open or config.tokens is not None):
        check_protected([endpoint])


def _line(option: Option, setting: Setting) -> str:
    value = _masked(setting.value)
    if value in (None, ()):
        return f"# {option.name}: {option.shown_default}"
    return f"{option.name} = {_toml(option, value)}  # {setting.source or 'default'}"


def _masked(value: Value | None) -> Value | None:
    if isinstance(value, tuple):
        return tuple(map(mask_password, value))
    return None if value is None else mask_password(value)


def _toml(option: Option, value: Value | None) -> str:
    if option.kind == "flag" and value in ("yes", "no"):
        return "true" if value == "yes" else "false"
    if option.kind == "number" and isinstance(value, str) and value.isascii() and value.isdecimal():
        # TOML has no leading zeros.
        return str(int(value))
    # A JSON string, or a list of them, is one of TOML too.
    return json.dumps(value, ensure_ascii=False)
