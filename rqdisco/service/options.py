"""The daemon's options on twistd's command line, with those of the environment and the
configuration file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from twisted.python import usage

from rqdisco import __version__
from rqdisco.service.config_file import BadConfigFile, read_config_file
from rqdisco.service.configuration import build_config
from rqdisco.service.environment import unknown_variables
from rqdisco.service.option_table import OPTIONS, Option
from rqdisco.service.settings import Value, config_file, name_source, resolve, values_of
from twisted import copyright as twisted_copyright

USAGE_STATUS = 64


class DaemonOptions(usage.Options):
    """The options. Each may also be set in the environment, as RQDISCO_ and its name, and in the
    configuration file. The command line takes precedence over the environment, and that over the
    file.
    """

    synopsis = "[options]"
    longdesc = (
        "Runs the rqlite discovery service. Each option can also be set in the environment as RQDISCO_<OPTION>;"
        " separate repeated values by spaces; and in the file that --config names."
    )
    # The command whose help explains the options.
    command = "twistd rqdisco"
    # The state directory, where neither the options nor systemd name one.
    default_directory: str = "rqdisco-data"

    optParameters: ClassVar[list[list[str | None]]] = [
        [option.name, None, None, option.help] for option in OPTIONS.values() if option.kind in ("text", "number")
    ]
    optFlags: ClassVar[list[list[str | None]]] = [
        [option.name, None, option.help] for option in OPTIONS.values() if option.kind == "flag"
    ]

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        super().__init__()
        self.environment = environment
        self.lists: dict[str, list[str]] = {}

    def opt_version(self) -> None:
        """Display the versions of rqdisco and Twisted, and exit."""
        print(f"rqdisco {__version__} (Twisted {twisted_copyright.version})")
        raise SystemExit(0)

    def parseOptions(self, options: list[str] | None = None) -> None:
        """Parse the command line. Print a usage error in one line and exit with USAGE_STATUS."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            # A misspelled variable may be the cause.
            reasons = "; ".join([str(error), *unknown_variables(self.environment)])
            print(f"rqdisco: {reasons} (see {self.command} --help)", file=sys.stderr)
            raise SystemExit(USAGE_STATUS) from None

    def postOptions(self) -> None:
        given = self._given()
        path = config_file(given, self.environment)
        try:
            settings = resolve(given, self.environment, {} if path is None else read_config_file(Path(path)))
        except BadConfigFile as error:
            raise usage.UsageError(str(error)) from None
        try:
            self.config = build_config(values_of(settings), self.environment, self.default_directory)
        except usage.UsageError as error:
            raise usage.UsageError(name_source(str(error), settings)) from None

    def _given(self) -> dict[str, Value]:
        """Return the options on the command line."""
        given: dict[str, Value] = {name: tuple(values) for name, values in self.lists.items()}
        for name, option in OPTIONS.items():
            if option.kind == "flag" and self[name]:
                given[name] = "yes"
            elif option.kind in ("text", "number") and self[name] is not None:
                given[name] = self[name]
        return given


def _appends(option: Option) -> Callable[[DaemonOptions, str], None]:
    """Return the method of an option that may be given several times."""

    def append(self: DaemonOptions, value: str) -> None:
        self.lists.setdefault(option.name, []).append(value)

    append.__doc__ = option.help
    return append


# Twisted calls a method for each such option.
for _option in OPTIONS.values():
    if _option.kind == "list":
        setattr(DaemonOptions, f"opt_{_option.name.replace('-', '_')}", _appends(_option))
