"""Forwards everything sent to a port, and counts it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

HOST = "127.0.0.1"


class Relay:
    """Listens on `port`, a free one, and forwards everything to the port `to`; a context manager.

    `bytes` is what was sent in either direction: what TCP carried, without its headers.
    `connections` is how many there were.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.bytes = 0
        self.connections = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._thread.start()
        serving = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._relay, HOST, 0), self._loop)
        self._server = serving.result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *exception: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            other_reader, other_writer = await asyncio.open_connection(HOST, self._to)
        except OSError:
            writer.close()
            return
        self._writers += writer, other_writer
        await asyncio.gather(self._pass(reader, other_writer), self._pass(other_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                self.bytes += len(data)
                writer.write(data)
                await writer.drain()
        writer.close()
