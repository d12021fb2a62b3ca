"""Clients' requests: sent as rqlited sends them, and lost now and then."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from tests.chaos.daemons import NAMES, ThreeDaemons
from tests.chaos.event_log import EventLog
from tests.support.process import Reply, parse_replies

# P4 requires 8; a stopped daemon answers later.
_PATIENCE_SECONDS = 25.0
ANSWER_SECONDS = 8.0


@dataclass
class Losses:
    """The odds that an answer does not reach its client, and that a client hangs up before there
    is one.
    """

    answers: float = 0.0
    hang_ups: float = 0.0


class Requester:
    """Sends the requests for one ID: each time to any daemon, or always to `near`. `late` are
    answers after 8 s, with the seconds.
    """

    def __init__(self, three: ThreeDaemons, events: EventLog, random: Random, losses: Losses) -> None:
        self._three = three
        self._events = events
        self._random = random
        self._losses = losses
        self.late: list[tuple[float, str]] = []

    async def plain(
        self, who: str, method: str, path: str, document: object = None, near: str | None = None
    ) -> Reply | None:
        """Send a request of an operator, whose answers are not lost."""
        body = b"" if document is None else json.dumps(document).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        return await self.ask(who, f"{method} {path.partition('?')[2]}", head + body, near, Losses())

    async def ask(
        self, who: str, what: str, request: bytes, near: str | None, losses: Losses | None = None
    ) -> Reply | None:
        """Send a request; return None where no answer comes."""
        losses = losses or self._losses
        name = near or self._random.choice(NAMES)
        port = self._three.port(name)
        asked = f"{who} -> {name} {what}"
        if port is None:
            self._events.log(f"{asked}: refused, it is down")
            return None
        begun = asyncio.get_running_loop().time()
        stalled = bool(self._three.stopped)
        reply = None
        try:
            reply = await self._exchange(port, request, losses)
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            self._events.log(f"{asked}: no answer, {str(error) or type(error).__name__}")
            return None
        except asyncio.CancelledError:
            self._events.log(f"{asked}: dies before the answer")
            raise
        took = asyncio.get_running_loop().time() - begun
        if took > ANSWER_SECONDS and not stalled and not self._three.stopped:
            self.late.append((took, f"{asked}: after {took:.1f} s"))
        if reply is None:
            self._events.log(f"{asked}: hangs up before the answer")
            return None
        is_lost = self._random.random() < losses.answers
        self._events.log(f"{asked}: {'LOST ' if is_lost else ''}{_format_result(reply)} ({took:.1f} s)")
        return None if is_lost else reply

    async def _exchange(self, port: int, request: bytes, losses: Losses) -> Reply | None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            if self._random.random() < losses.hang_ups:
                await writer.drain()
                await asyncio.sleep(self._random.uniform(0, 0.03))
                return None
            # asyncio.wait_for may lose a cancellation, before Python 3.12.
            patience = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, writer.transport.abort)
            try:
                return await _received(reader)
            finally:
                patience.cancel()
        finally:
            with suppress(OSError):
                writer.transport.abort()


async def _received(reader: asyncio.StreamReader) -> Reply:
    head = await reader.readuntil(b"\r\n\r\n")
    (reply,) = parse_replies(head)
    body = await reader.readexactly(int(reply.headers.get("content-length", 0)))
    (reply,) = parse_replies(head + body)
    return reply


def _format_result(reply: Reply) -> str:
    if reply.status != 200:
        return f"{reply.status} {reply.reason}"
    try:
        nodes = json.loads(reply.body)["nodes"]
    except (ValueError, KeyError, TypeError):
        return reply.body.decode(errors="replace")[:120]
    return f"lists {nodes}"
