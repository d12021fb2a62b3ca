"""The daemon's options, from the command line and the environment, checked and frozen."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
from twisted.python import usage

from rqdisco.directory import Limits

DEFAULT_LISTEN = "tcp:4000:interface=127.0.0.1:backlog=1000"
USAGE_STATUS = 64


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The options, checked."""

    listen: tuple[str, ...]
    data_dir: Path
    limits: Limits
    strict_addresses: bool
    max_body: int
    snapshot_every: float


class Options(usage.Options):
    """The options. Each may also be set in the environment, as RQDISCO_ and its name; the command line wins."""

    synopsis = "[options]"
    longdesc = "Runs the rqlite discovery service. Each option may also be set as RQDISCO_<OPTION> in the environment."

    optParameters = [
        ["data-dir", None, None, "Where the state is kept. [default: $STATE_DIRECTORY, else ./rqdisco-data]"],
        ["regrant-window", None, "30", "Seconds in which a node that was told it is alone is told so again; 0 = off."],
        ["max-ids", None, None, "How many discovery IDs may be minted. [default: no limit]"],
        ["max-nodes", None, "1000", "How many nodes an ID may hold."],
        ["max-body", None, "16384", "How many bytes the body of a request may have."],
        ["snapshot-every", None, "300", "Seconds between snapshots."],
    ]
    optFlags = [
        ["strict-addresses", None, "Refuse addresses that other machines can hardly reach, instead of logging them."],
    ]

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        super().__init__()
        self._environment = environment
        self._listen: list[str] = []
        self._given: set[str] = set()

    def opt_listen(self, endpoint: str) -> None:
        """Where to listen: a Twisted endpoint string, repeatable. [default: tcp:4000:interface=127.0.0.1]"""
        self._listen.append(endpoint)

    def parseOptions(self, options: list[str] | None = None) -> None:
        """Parse; a bad option ends the process with one line."""
        self._given = {option.split("=")[0].lstrip("-") for option in options or ()}
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            print(f"rqdisco: {error} (see twistd rqdisco --help)", file=sys.stderr)
            raise SystemExit(USAGE_STATUS) from None

    def postOptions(self) -> None:
        self.config = Config(
            listen=tuple(self._listen or self._environment.get("RQDISCO_LISTEN", DEFAULT_LISTEN).split()),
            data_dir=Path(self._text("data-dir") or self._default_directory()).absolute(),
            limits=Limits(
                window_ms=int(1000 * self._number("regrant-window", 0.0)),
                max_ids=None if self._text("max-ids") is None else int(self._number("max-ids", 0)),
                max_nodes=int(self._number("max-nodes", 1)),
            ),
            strict_addresses=self._flag("strict-addresses"),
            max_body=int(self._number("max-body", 64)),
            snapshot_every=self._number("snapshot-every", 1.0),
        )

    def _default_directory(self) -> str:
        return self._environment.get("STATE_DIRECTORY", "").split(":")[0] or "rqdisco-data"

    def _text(self, name: str) -> str | None:
        variable = "RQDISCO_" + name.upper().replace("-", "_")
        if name not in self._given and variable in self._environment:
            return self._environment[variable]
        text: str | None = self[name]
        return text

    def _number(self, name: str, least: float) -> float:
        text = self._text(name) or ""
        try:
            number = float(text) if isinstance(least, float) else int(text)
        except ValueError:
            raise usage.UsageError(f"--{name}: {text!r} is not a number") from None
        if not least <= number < 1e12:
            raise usage.UsageError(f"--{name}: {text} is out of range, the least is {least:g}")
        return number

    def _flag(self, name: str) -> bool:
        if self[name]:
            return True
        text = (self._environment.get("RQDISCO_" + name.upper().replace("-", "_"), "")).lower()
        if text in ("", "0", "no", "false", "off"):
            return False
        if text in ("1", "yes", "true", "on"):
            return True
        raise usage.UsageError(f"RQDISCO_{name.upper().replace('-', '_')}: {text!r} is neither yes nor no")
