"""A process of rqlited, and the cluster as it and others see it."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, TypeVar

from tests.support.process import PATIENCE, ask

# More than the five passes of a legacy node take, or six seconds of waiting and a join in consul-kv
# mode.
FORMS_SECONDS = 40.0
EXITS_SECONDS = 10.0
_LOOKS_SECONDS = 0.1

T = TypeVar("T")


@dataclass(frozen=True)
class View:
    """A cluster, by Raft addresses: its leader and its voters."""

    leader: str
    voters: frozenset[str]


class Node:
    """One rqlited with its data directory. Every start has the same arguments and appends to the
    same log.
    """

    def __init__(
        self,
        name: str,
        http_addr: str,
        raft_addr: str,
        command: Sequence[str],
        log: Path,
        connect: Callable[[str, int], HTTPConnection],
    ) -> None:
        self.name = name
        self.http_addr = http_addr
        # Up to rqlite 6 nodes are known to each other by the address that a name resolves to.
        self.raft_addr = _resolved(raft_addr)
        self.starts = 0
        self._command = command
        self._log = log
        self._connect = connect
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it without the environment of the test, which would configure Consul's client and
        Go's.
        """
        self.starts += 1
        # Go's own resolver reads resolv.conf alone; the C library's may ask a service of another
        # network namespace.
        environment = {"PATH": os.environ.get("PATH", ""), "GODEBUG": "netdns=go"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """Send SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)

    @property
    def status(self) -> int | None:
        """The exit status of its process; None while that runs."""
        return None if self._process is None else self._process.poll()

    def exit_status(self) -> int | None:
        """Wait until it ends by itself; return None if it does not."""
        return eventually(lambda: self.status, EXITS_SECONDS)

    @property
    def log(self) -> str:
        """Everything it wrote."""
        return self._log.read_text(errors="replace")

    def view(self) -> View | None:
        """The cluster as it sees it; None while it is in none, has no leader, or does not
        answer.
        """
        host, _, port = self.http_addr.rpartition(":")
        try:
            with closing(self._connect(host, int(port))) as connection:
                reply = ask(connection, "GET", "/status")
        except (OSError, HTTPException):
            return None
        return view_in(reply.document["store"]) if reply.status == 200 else None


def view_in(store: dict[str, Any]) -> View | None:
    """Return the cluster in a node's status: rqlite 3 and 4 give addresses, later ones give details
    of each node.
    """
    leader = store.get("leader")
    addr = leader["addr"] if isinstance(leader, dict) else leader
    if not addr:
        return None
    if "peers" in store:
        voters = store["peers"]
    else:
        # A node that is just being joined may know its leader, but no voters. rqlite 5 does not
        # name them.
        nodes = store["nodes"] or ()
        voters = [node["addr"] for node in nodes if node.get("suffrage", "voter").lower() == "voter"]
    return View(_resolved(addr), frozenset(map(_resolved, voters)))


def eventually(look: Callable[[], T | None], seconds: float) -> T | None:
    """Return the result of `look` within this time. It has to poll: rqlited shows its cluster only
    on request.
    """
    deadline = time.monotonic() + seconds
    while (found := look()) is None and time.monotonic() < deadline:
        time.sleep(_LOOKS_SECONDS)
    return found


def assert_one_cluster(nodes: Sequence[Node], *, running: Sequence[Node] = (), seconds: float = FORMS_SECONDS) -> Node:
    """Wait until all nodes, or those that run, name one leader and all nodes as its voters; return
    the leader.
    """
    running = running or nodes

    def look() -> Node | None:
        assert not [node.status for node in running if node.status is not None], _describe(nodes)
        return _leader(nodes, running)

    leader = eventually(look, seconds)
    assert leader is not None, _describe(nodes)
    return leader


def assert_one_cluster_of_restarted(nodes: Sequence[Node], *, seconds: float = FORMS_SECONDS) -> Node:
    """As `assert_one_cluster`; nodes that exit are started again, as a supervisor does."""

    def look() -> Node | None:
        for node in nodes:
            if node.status is not None:
                node.start()
        return _leader(nodes, nodes)

    leader = eventually(look, seconds)
    assert leader is not None, _describe(nodes)
    return leader


def _leader(nodes: Sequence[Node], running: Sequence[Node]) -> Node | None:
    """Return the leader if those that run name it and all nodes as its voters."""
    voters = frozenset(node.raft_addr for node in nodes)
    views = {node.view() for node in running}
    leaders = [node for node in running if views == {View(node.raft_addr, voters)}]
    return leaders[0] if leaders else None


def _resolved(addr: str) -> str:
    return re.sub(r"\Alocalhost:", "127.0.0.1:", addr)


def _describe(nodes: Sequence[Node]) -> str:
    """Return what all nodes see, and the ends of their logs."""
    return "\n".join(f"{node.name} {node.status} {node.view()}\n{node.log[-3000:]}" for node in nodes)
