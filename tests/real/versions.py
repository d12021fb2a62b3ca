"""Which rqlited there are to be tested with, as the environment names them, and what each can do.
Pure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rqdisco.recipes import Mode

VARIABLE = "RQLITED"
_ANY = 1 << 30


@dataclass(frozen=True)
class Rqlited:
    """A binary, and the version that it says it is: `8.43.4`, or as little as `8` where nobody told
    its compiler.
    """

    path: str
    version: str

    @property
    def number(self) -> tuple[int, ...]:
        """The version in a form that can be compared. What is not known is taken for the newest, as
        recipes take it.
        """
        parts = [int(part) for part in re.findall(r"[0-9]+", self.version)[:3]]
        return (*parts, *[_ANY] * (3 - len(parts)))

    @property
    def modes(self) -> tuple[Mode, ...]:
        """How it can find a cluster through rqdisco."""
        modes: list[Mode] = []
        if (3, 12) <= self.number < (7,):
            modes.append("legacy")
        if self.number >= (7,):
            modes.append("consul-kv")
        if self.number >= (7, 2):
            modes += ["dns", "dns-srv"]
        return tuple(modes)

    def addresses(self, node_id: str, http_addr: str, raft_addr: str) -> list[str]:
        """The flags that say who and where a node is."""
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
    """The binaries that the variable names, divided by white space or by what divides PATH."""
    return [path for path in re.split(rf"[\s{re.escape(os.pathsep)}]+", text) if path]


def version_in(output: str) -> str:
    """The version in what `rqlited -version` prints. Raises ValueError if that is not rqlited."""
    match = re.match(r"rqlited v?([0-9]+(?:\.[0-9]+)*)", output)
    if match is None:
        raise ValueError(f"not what rqlited -version prints: {output!r}")
    return match[1]


def cases(binaries: Sequence[Rqlited], modes: Sequence[Mode], *, root: bool) -> list[Case]:
    """Each binary in each of those modes that it has. The DNS modes need a resolver, and that takes
    root.
    """
    possible = [mode for mode in modes if root or mode not in ("dns", "dns-srv")]
    return [Case(rqlited, mode) for rqlited in binaries for mode in rqlited.modes if mode in possible]
