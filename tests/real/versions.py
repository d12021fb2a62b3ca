"""The rqlited binaries to test with, as the environment names them, and their modes. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rqdisco.recipes.flags import Mode

VARIABLE = "RQLITED"
_ANY = 1 << 30


@dataclass(frozen=True)
class Rqlited:
    """A binary, and its version: `8.43.4`, or as little as `8` where it was compiled without
    one.
    """

    path: str
    version: str

    @property
    def number(self) -> tuple[int, ...]:
        """The version in a comparable form. Missing parts count as the newest, as in recipes."""
        parts = [int(part) for part in re.findall(r"[0-9]+", self.version)[:3]]
        return (*parts, *[_ANY] * (3 - len(parts)))

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes in which it can find a cluster through rqdisco."""
        modes: list[Mode] = []
        if (3, 12) <= self.number < (7,):
            modes.append("legacy")
        if self.number >= (7,):
            modes.append("consul-kv")
        if self.number >= (7, 2):
            modes += ["dns", "dns-srv"]
        return tuple(modes)

    def addresses(self, node_id: str, http_addr: str, raft_addr: str) -> list[str]:
        """Return the flags for the name and the addresses of a node."""
        if self.number < (4,):
            return [f"-http={http_addr}", f"-raft={raft_addr}"]
        where = [f"-http-addr={http_addr}", f"-raft-addr={raft_addr}"]
        return where if self.number < (5,) else [f"-node-id={node_id}", *where]


@dataclass(frozen=True)
class Case:
    """One binary in one of its modes."""

    rqlited: Rqlited
    mode: Mode

    def __str__(self) -> str:
        return f"{self.rqlited.version}-{self.mode}"


def paths(text: str) -> list[str]:
    """Return the binaries that the variable names, separated by white space or by the separator of
    PATH.
    """
    return [path for path in re.split(rf"[\s{re.escape(os.pathsep)}]+", text) if path]


def version_in(output: str) -> str:
    """Return the version in the output of `rqlited -version`. Raises ValueError if that is not
    rqlited.
    """
    match = re.match(r"rqlited v?([0-9]+(?:\.[0-9]+)*)", output)
    if match is None:
        raise ValueError(f"not what rqlited -version prints: {output!r}")
    return match[1]


def cases(binaries: Sequence[Rqlited], modes: Sequence[Mode], *, root: bool) -> list[Case]:
    """Return each binary in each of its modes. The DNS modes need a resolver, and that needs
    root.
    """
    possible = [mode for mode in modes if root or mode not in ("dns", "dns-srv")]
    return [Case(rqlited, mode) for rqlited in binaries for mode in rqlited.modes if mode in possible]
