"""The daemon's options, from the command line and the environment, checked and frozen."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
from twisted.python import usage

from rqdisco.local import Limits

DEFAULT_LISTEN = "tcp:4000:interface=127.0.0.1:backlog=1000"
USAGE_STATUS = 64
MOST = 1e12


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
        ["max-ids", None, None, "How many discovery IDs may be held. [default: no limit]"],
        ["max-nodes", None, "1000", "How many nodes an ID may hold."],
        ["max-body", None, "16384", "How many bytes the body of a request may have."],
        ["snapshot-every", None, "300", "Seconds between snapshots."],
        ["kv-create", None, "yes", "Whether an unknown consul-kv key makes its ID: yes or no."],
    ]
    optFlags = [
        ["strict-addresses", None, "Refuse addresses that other machines can hardly reach, instead of logging them."],
    ]

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        super().__init__()
        self._listen: list[str] = []
        self._default_listen = environment.get("RQDISCO_LISTEN", "").split() or [DEFAULT_LISTEN]
        self._default_directory = environment.get("STATE_DIRECTORY", "").split(":")[0] or "rqdisco-data"
        for name in (
            "data-dir",
            "regrant-window",
            "max-ids",
            "max-nodes",
            "max-body",
            "snapshot-every",
            "kv-create",
            "strict-addresses",
        ):
            # What the environment sets is a default of its own, so that the command line wins.
            if text := environment.get("RQDISCO_" + name.upper().replace("-", "_")):
                self[name] = text

    def opt_listen(self, endpoint: str) -> None:
        """Where to listen: Twisted endpoint string, repeatable. [default: tcp:4000:interface=127.0.0.1:backlog=1000]"""
        self._listen.append(endpoint)

    def parseOptions(self, options: list[str] | None = None) -> None:
        """Parse; a bad option ends the process with one line."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            print(f"rqdisco: {error} (see twistd rqdisco --help)", file=sys.stderr)
            raise SystemExit(USAGE_STATUS) from None

    def postOptions(self) -> None:
        self.config = Config(
            listen=tuple(self._listen or self._default_listen),
            data_dir=Path(self["data-dir"] or self._default_directory).absolute(),
            limits=Limits(
                window_ms=int(1000 * self._number("regrant-window", 0.0)),
                max_ids=None if self["max-ids"] is None else int(self._number("max-ids", 0)),
                max_nodes=int(self._number("max-nodes", 1)),
                make_named=self._flag("kv-create"),
            ),
            strict_addresses=self._flag("strict-addresses"),
            max_body=int(self._number("max-body", 64)),
            snapshot_every=self._number("snapshot-every", 1.0),
        )

    def _number(self, name: str, least: float) -> float:
        text = self[name]
        try:
            number = float(text) if isinstance(least, float) else int(text)
        except ValueError:
            raise usage.UsageError(f"{name}: {text!r} is not a number") from None
        if not least <= number <= MOST:
            raise usage.UsageError(f"{name}: {text} is not between {least:g} and {MOST:g}")
        return number

    def _flag(self, name: str) -> bool:
        text = str(self[name]).lower()
        if text in ("1", "yes", "true", "on"):
            return True
        if text in ("0", "no", "false", "off"):
            return False
        raise usage.UsageError(f"{name}: {text!r} is neither yes nor no")
