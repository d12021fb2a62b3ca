"""Pull a peer's records of an owner above a version, page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rqdisco.backends.gossip.membership.peer import Peer
from rqdisco.backends.gossip.transport.messages import Delta, Page, Pull
from rqdisco.core import codec

PAGE_SECONDS = 5.0


async def pull(peer: Peer, owner: str, after: int, upto: int | None, apply: Callable[[Delta], Awaitable[None]]) -> None:
    """Pass to `apply` what follows `after`, up to cursor `upto`; without one, also what lies beyond
    a gap at the peer.

    Raises PeerError's kinds, and what `apply` raises.
    """
    page = target = 0
    while True:
        answer = await peer.request("pull", Pull(owner=owner, after=after, page=page, upto=target), Page, PAGE_SECONDS)
        delta = answer.delta
        await apply(delta)
        page, target = answer.page, delta.upto if answer.page else 0
        if page:
            continue
        last = max([delta.upto, *map(_version, delta.records)])
        if last <= after or (upto is not None and delta.upto >= upto):
            return
        after = last


def _version(line: bytes) -> int:
    return codec.peek_version(codec.split_record(bytes(line))[1])
