"""The links between daemons: one for each pair and direction, each with a fault of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

from tests.support.proxy import HEALTHY, Fault, Way

_HOST = "127.0.0.1"


@dataclass(eq=False)
class _Link:
    """A connection from one daemon to another; `has_lost` means that something sent through it
    disappeared.
    """

    pair: tuple[str, str]
    ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    has_lost: bool = False

    def cut(self) -> None:
        for end in self.ends:
            end.transport.abort()


class Links:
    """A port for each daemon, which the others must use; `pid_of` returns the process ID of a
    daemon.

    All connections come from one address, so the sender is identified by the process that has the
    socket.
    """

    def __init__(self, names: str, pid_of: Callable[[str], int | None]) -> None:
        self._pid_of = pid_of
        self.faults: dict[tuple[str, str], Fault] = dict.fromkeys(permutations(names, 2), HEALTHY)
        self.targets: dict[str, int] = {}
        self.ports: dict[str, int] = {}
        self._names = names
        self._links: set[_Link] = set()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen for all daemons."""
        for name in self._names:
            server = await asyncio.start_server(self._accepts(name), _HOST, 0, backlog=100)
            self._servers.append(server)
            self.ports[name] = server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Cut everything, for good."""
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        for link in self._links:
            link.cut()

    def url(self, name: str) -> str:
        """Return the URL at which the others reach a daemon."""
        return f"http://{_HOST}:{self.ports[name]}"

    def spoil(self, sender: str, receiver: str, fault: Fault) -> None:
        """Apply a fault to the requests of `sender` to `receiver` and their answers; what was
        swallowed stays lost.
        """
        pair = sender, receiver
        self.faults[pair] = fault
        for link in [link for link in self._links if link.pair == pair]:
            if fault.refuses or (link.has_lost and not fault.swallows):
                link.cut()

    def heal(self) -> None:
        """End all faults."""
        for sender, receiver in self.faults:
            self.spoil(sender, receiver, HEALTHY)

    def _accepts(self, receiver: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(self._serve(receiver, reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return accept

    async def _serve(self, receiver: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("peername")[1]
        sender = await asyncio.to_thread(self._sender, port)
        target = self.targets.get(receiver)
        if sender is None or sender == receiver or target is None or self.faults[sender, receiver].refuses:
            writer.transport.abort()
            return
        try:
            back, onward = await asyncio.open_connection(_HOST, target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link((sender, receiver), (writer, onward))
        self._links.add(link)
        try:
            await asyncio.gather(
                self._pump(link, reader, onward, "requests"), self._pump(link, back, writer, "replies")
            )
        finally:
            self._links.discard(link)
            link.cut()

    async def _pump(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        """Forward one direction; at its end both directions end, unless that is swallowed as
        well.
        """
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if delay := self.faults[link.pair].delay:
                    await asyncio.sleep(delay)
                if way in self.faults[link.pair].swallows:
                    link.has_lost = True
                else:
                    writer.write(data)
        if way in self.faults[link.pair].swallows:
            link.has_lost = True
            return
        for end in link.ends:
            with suppress(OSError, RuntimeError):
                end.close()

    def _sender(self, port: int) -> str | None:
        """Return the daemon whose connection comes from a port, None if there is none any more."""
        inode = _inode_of(port)
        if inode is None:
            return None
        return next((name for name in self._names if _holds(self._pid_of(name), inode)), None)


def _inode_of(port: int) -> str | None:
    wanted = f":{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(wanted) and fields[9] != "0":
            return fields[9]
    return None


def _holds(pid: int | None, inode: str) -> bool:
    """Report whether a process has a socket open."""
    directory = Path(f"/proc/{pid}/fd")
    with suppress(OSError):
        for each in directory.iterdir():
            with suppress(OSError):
                if os.readlink(each) == f"socket:[{inode}]":
                    return True
    return False
