"""Runs the daemon for `rqdisco serve`: as `twistd --nodaemon rqdisco` does, but it says where it
listens, and keeps its state in a directory of the user.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from twisted.application.service import IServiceMaker

# Twisted's documented entry points, which it does not mark as exported.
from twisted.scripts.twistd import ServerOptions, runApp  # type: ignore[attr-defined]
from zope.interface import implementer

from rqdisco import tap
from rqdisco.service.banner import banner
from rqdisco.service.config import Config
from rqdisco.service.lifecycle import Daemon

_SYSTEM_DIRECTORY = "/var/lib/rqdisco"


class ServeOptions(tap.Options):
    """The options of the daemon, with the defaults of `rqdisco serve`."""

    command = "rqdisco serve"

    def __init__(self) -> None:
        super().__init__()
        self.default_directory = default_directory(os.environ, is_root=os.geteuid() == 0)


@implementer(IServiceMaker)
class _Maker:
    """The service as twistd expects it of a plugin."""

    tapname = "rqdisco"
    description = "The rqlite discovery service."
    options = ServeOptions

    def makeService(self, options: ServeOptions) -> Daemon:
        """Build the daemon, which prints where it listens."""
        # sys.stderr goes to the log once that is open.
        return tap.makeService(options, lambda addresses: print_banner(options.config, addresses, sys.__stderr__))


class _Twistd(ServerOptions):
    """The options of twistd, which knows this one service and looks for no plugins."""

    def __init__(self) -> None:
        super().__init__()
        self.loadedPlugins = {_Maker.tapname: _Maker()}

    @property
    def subCommands(self) -> Iterator[tuple[str, None, Any, str]]:
        yield _Maker.tapname, None, _Maker.options, _Maker.description


def print_banner(config: Config, addresses: Mapping[str, Sequence[str]], stream: TextIO | None) -> None:
    """Print where the daemon listens. It runs on if nobody reads that."""
    if stream is not None:
        with suppress(OSError):
            print("\n".join(banner(config, addresses)), file=stream, flush=True)


def default_directory(environment: Mapping[str, str], *, is_root: bool) -> str:
    """Return the state directory of a user: as the XDG base directories say, and that of the system
    for root.
    """
    if is_root:
        return _SYSTEM_DIRECTORY
    data = environment.get("XDG_DATA_HOME", "")
    if not data.startswith("/"):
        data = str(Path(environment.get("HOME") or ".") / ".local" / "share")
    return f"{data}/rqdisco"


def serve(arguments: Sequence[str]) -> int:
    """Run the daemon until it is stopped. As under twistd, a stop by a signal ends the process by
    that signal.
    """
    twistd = _Twistd()
    twistd.parseOptions(["--nodaemon", "--pidfile=", _Maker.tapname, *arguments])
    runApp(twistd)
    return 0
