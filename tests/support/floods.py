"""Floods: a separate process that overloads a daemon until its standard input is closed.

`python -m tests.support.floods KIND PORT COUNT SOURCE PATH`: COUNT connections of a kind, each of
which begins with a PROXY header that names SOURCE, unless that is `-`. It prints a line once all
have begun, and at its end the number of answers by status, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

_HEADERS = b"".join(b"X-%d: %b\r\n" % (number, b"y" * 180) for number in range(99))
_BODY_HEAD = b"POST /%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16000\r\n\r\n"


class Flood:
    """Connections to one port, and their results."""

    def __init__(self, port: int, count: int, source: str, path: str) -> None:
        self.port = port
        self.count = count
        self.path = path.encode()
        self.greeting = b"" if source == "-" else f"PROXY TCP4 {source} 127.0.0.1 4711 4000\r\n".encode()
        self.statuses: Counter[str] = Counter()
        self._begun = 0
        self._all_begun = asyncio.Event()

    async def run(self, kind: str) -> None:
        """Begin, and continue until the standard input ends."""
        each: Callable[[], Awaitable[None]] = getattr(self, kind)
        tasks = [asyncio.ensure_future(self._repeat(each)) for _ in range(self.count)]
        await self._all_begun.wait()
        print("begun", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        print(json.dumps(self.statuses), flush=True)

    async def _repeat(self, each: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await each()
            except (ConnectionError, asyncio.IncompleteReadError):
                self.statuses["cut"] += 1
                await asyncio.sleep(0.05)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(self.greeting)
        self._begun += 1
        if self._begun == self.count:
            self._all_begun.set()
        return reader, writer

    async def _status(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.statuses[head[9:12].decode()] += 1
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if length:
            await reader.readexactly(int(length[0].split()[1]))

    async def idle(self) -> None:
        """Send nothing."""
        reader, writer = await self._connect()
        try:
            await reader.read(1)
        finally:
            writer.close()
        self.statuses["cut"] += 1
        await asyncio.sleep(3600)

    async def loris(self) -> None:
        """Send a request byte by byte: every other connection its headers, the rest the body."""
        reader, writer = await self._connect()
        try:
            if self._begun % 2:
                writer.write(_BODY_HEAD % self.path)
            else:
                writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
            while not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.5)
        finally:
            writer.close()

    async def headers(self) -> None:
        """Send more headers than allowed."""
        reader, writer = await self._connect()
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + _HEADERS + b"\r\n")
            await self._status(reader)
        finally:
            writer.close()

    async def creations(self) -> None:
        """Create one ID after another."""
        await self._ask(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")

    async def reads(self) -> None:
        """Read one list after another."""
        await self._ask(b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % self.path)

    async def _ask(self, request: bytes) -> None:
        reader, writer = await self._connect()
        try:
            while True:
                writer.write(request)
                await self._status(reader)
        finally:
            writer.close()

    async def unread(self) -> None:
        """Request lists and read none of them."""
        _, writer = await self._connect()
        transport: Any = writer.transport
        transport.pause_reading()
        try:
            writer.write(b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % self.path * 50)
            await asyncio.sleep(3600)
        finally:
            writer.transport.abort()


def main() -> None:
    kind, port, count, source, path = sys.argv[1:]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def run() -> None:
        await Flood(int(port), int(count), source, path).run(kind)

    asyncio.run(run())


if __name__ == "__main__":
    main()
