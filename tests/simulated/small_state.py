"""The state of a small world: plain tuples, which can be compared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from tests.simulated.small_table import NOBODY, Said

ADDRESSES = ("10.0.0.1:4001", "10.0.0.2:4001")
# The numbers of requests: those of the operator, and those of the addresses, ten apart.
OPERATOR = 90
FIRST = 10
# Kinds of what is under way: a message, an answer, a message that its receiver is working on.
MESSAGE, ANSWER, CALL = 0, 1, 2

Item = tuple[int, int, int, int]
Event = tuple[Any, ...]


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on the number of events of each kind. `requests` are those of each address; a `loss` is a message, an
    answer or a client that is gone; with `may_roll_back` a crash may also lose the last write that
    the disk had. If it `has_begun`, the first address was told to bootstrap before.
    """

    requests: int = 2
    crashes: int = 1
    losses: int = 1
    removals: int = 0
    ticks: int = 1
    may_roll_back: bool = False
    retry_window_ms: int = 30_000
    has_begun: bool = False


class Client(NamedTuple):
    """An address: its requests so far, the daemon that it waits for (-1 for none), whether it was
    told to bootstrap, and whether it is acknowledged; both until it is removed.
    """

    requests: int = 0
    waits_for: int = -1
    is_told: bool = False
    is_acked: bool = False


class Operator(NamedTuple):
    """The address that is being removed (-1 for none), the daemon that does so, and how many requests
    there were. Its node is stopped before the first request, and started after the answer to one.
    """

    removes: int = -1
    at: int = -1
    removed: int = 0


class World(NamedTuple):
    """The states of both daemons, what is under way, and what is left of the bounds."""

    daemons: tuple[int, int]
    items: tuple[Item, ...]
    clients: tuple[Client, ...]
    operator: Operator
    crashes: int
    losses: int
    ticks: int


def renamed_items(items: Iterable[Item], at: int, renamed: dict[int, int]) -> tuple[list[Item], dict[int, int]]:
    """Return what is still under way after a step of one daemon, whose numbers are called otherwise
    now; and to whom it owed answers before.
    """
    after: list[Item] = []
    senders: dict[int, int] = {}
    for item in items:
        kind, where, name, content = item
        if kind == CALL and where == at:
            senders[name] = content
            name = renamed.get(name, NOBODY)
        elif kind == CALL:
            content = renamed.get(content, NOBODY)
        elif where == at:
            name = renamed.get(name, NOBODY)
        if name != NOBODY or kind == MESSAGE:
            after.append((kind, where, name, content))
    return after, senders


def without_item(items: tuple[Item, ...], item: Item) -> tuple[Item, ...]:
    """Return what is under way without one of the items that are equal to this."""
    place = items.index(item)
    return items[:place] + items[place + 1 :]


def with_client(world: World, number: int, client: Client) -> World:
    """Return the world with another state of a client."""
    clients = (*world.clients[:number], client, *world.clients[number + 1 :])
    return world._replace(clients=clients)


def client_answered(clients: tuple[Client, ...], number: int, said: Said) -> tuple[tuple[Client, ...], str | None]:
    """Return the clients after an answer to one of them, and what is wrong with it."""
    client = clients[number]._replace(waits_for=-1)
    failure = None
    if said.listed:
        client = client._replace(is_acked=True)
    if said.is_told:
        client = client._replace(is_told=True)
        others = [ADDRESSES[each] for each, other in enumerate(clients) if other.is_told and each != number]
        if others:
            failure = f"I1: {ADDRESSES[number]} is told to bootstrap, as {others[0]} was"
    return (*clients[:number], client, *clients[number + 1 :]), failure
