"""The steps of a small world: all that may happen next, and what is wrong then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rqdisco.backends.gossip.core.inputs import Create, Register, Remove
from rqdisco.backends.limits import Limits
from rqdisco.core.records import Node
from tests.simulated.machines import Daemon
from tests.simulated.small_state import (
    ADDRESSES,
    ANSWER,
    CALL,
    FIRST,
    MESSAGE,
    OPERATOR,
    Bounds,
    Client,
    Event,
    Item,
    Operator,
    World,
    client_answered,
    renamed_items,
    with_client,
    without_item,
)
from tests.simulated.small_table import NOBODY, THIS, Facts, Step, Table

# Ticks before the ID is used, so that the daemons have exchanged all they know.
_FIRST_TICKS = 8


class SmallWorld:
    """The world and its steps."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.table = Table(may_roll_back=bounds.may_roll_back)
        self.discovery_id = ""
        daemons, self.discovery_id = _prepare(self, Limits(retry_window_ms=bounds.retry_window_ms))
        self.table = Table(may_roll_back=bounds.may_roll_back, watched=self.discovery_id)
        first = []
        for daemon in daemons:
            assert daemon.machine is not None
            daemon.before_last = daemon.disk.copy()
            first.append(self.table.add(daemon)[0])
        self.first = World(
            daemons=(first[0], first[1]),
            items=(),
            clients=tuple(Client() for _ in ADDRESSES),
            operator=Operator(),
            crashes=bounds.crashes,
            losses=bounds.losses,
            ticks=bounds.ticks,
        )
        if bounds.has_begun:
            began = self.quiet(self.apply(self.first, ("register", 0, 0))[0])
            self.first = with_client(began, 0, began.clients[0]._replace(requests=0))

    def quiet(self, world: World) -> World:
        """Let everything under way end, in order."""
        while (event := next(self._ending(world), None)) is not None:
            world, wrong = self.apply(world, event)
            assert wrong is None, wrong
        return world

    def _ending(self, world: World) -> Iterator[Event]:
        for number, each in enumerate(world.daemons):
            if self.table.facts[each].writes:
                yield ("write", number)
        for item in world.items:
            if item[0] == ANSWER:
                yield ("answer", item)
            elif item[0] == MESSAGE:
                yield ("deliver" if self.table.facts[world.daemons[1 - item[1]]].is_up else "refuse", item)

    def check_quiet(self, world: World) -> str | None:
        """Return what is wrong with a world in which nothing is under way."""
        if world.items:
            return None
        owner, other = (self.table.facts[each] for each in world.daemons)
        if not (owner.is_idle and other.is_idle and owner.is_ready) or owner.nodes is None:
            return None
        acked = [address for address, each in zip(ADDRESSES, world.clients, strict=True) if each.is_acked]
        known = (*owner.nodes, *owner.hinted, *other.hinted)
        if lost := [each for each in acked if each not in known]:
            return f"I4: {lost[0]} was acknowledged, and is gone"
        was_calm = (world.losses, world.crashes, world.operator.removed) == (self.bounds.losses, self.bounds.crashes, 0)
        if acked and was_calm and not any(each.is_told for each in world.clients):
            return "I3: nodes are listed, and nobody was told to bootstrap"
        return None

    def text_of(self, event: Event) -> str:
        """Describe an event."""
        what, *args = event
        if args and isinstance(args[0], tuple):
            kind, at, _, content = args[0]
            known = {MESSAGE: self.table.messages, ANSWER: self.table.answers}.get(kind)
            return f"{what} {'ab'[at]}: {known.values[content] if known is not None else 'message in progress'}"
        if what in ("register", "remove"):
            return f"{what} {ADDRESSES[args[0]]} at {'ab'[args[1]]}"
        if what == "cancel":
            return f"{ADDRESSES[args[0]]} hangs up"
        return " ".join([what, "ab"[args[0]], *map(str, args[1:])])

    def events(self, world: World) -> Iterator[Event]:
        """Return what may happen next."""
        facts = (self.table.facts[world.daemons[0]], self.table.facts[world.daemons[1]])
        previous = None
        for item in world.items:
            if item != previous:
                yield from self._item_events(world, facts, item)
            previous = item
        for number, each in enumerate(facts):
            yield from self._daemon_events(world, number, each)
        yield from self._client_events(world, facts)

    def _item_events(self, world: World, facts: tuple[Facts, Facts], item: Item) -> Iterator[Event]:
        kind, at, name, _ = item
        if kind == MESSAGE:
            if facts[1 - at].is_up:
                yield ("deliver", item)
            elif name != NOBODY:
                yield ("refuse", item)
        elif kind == ANSWER:
            yield ("answer", item)
        elif item[3] == NOBODY:
            yield ("hang up", item)
        waits = item[3] if kind == CALL else name
        if world.losses and waits != NOBODY:
            yield ("lose", item)

    def _daemon_events(self, world: World, number: int, facts: Facts) -> Iterator[Event]:
        if not facts.is_up:
            yield ("start", number)
            return
        if facts.writes:
            yield ("write", number)
        if world.ticks and facts.may_tick:
            yield ("tick", number)
        if world.crashes:
            for written in range(facts.writes + 1):
                yield ("kill", number, written)
            if self.bounds.may_roll_back:
                yield ("roll back", number)

    def _client_events(self, world: World, facts: tuple[Facts, Facts]) -> Iterator[Event]:
        operator = world.operator
        for number, client in enumerate(world.clients):
            if client.waits_for >= 0:
                if world.losses:
                    yield ("cancel", number)
                continue
            # The addresses are alike, so that they come in their order.
            is_next = number == 0 or world.clients[number - 1].requests > 0
            if client.requests < self.bounds.requests and is_next and operator.removes != number:
                yield from (("register", number, at) for at in (0, 1) if facts[at].is_up)
            may_remove = client.is_acked if operator.removes < 0 else operator.removes == number and operator.at < 0
            if may_remove and operator.removed < self.bounds.removals:
                yield from (("remove", number, at) for at in (0, 1) if facts[at].is_up)

    def apply(self, world: World, event: Event) -> tuple[World, str | None]:
        """Return the world after an event, and what is wrong then."""
        what, *args = event
        return _APPLY[what](self, world, *args)

    def _deliver(self, world: World, item: Item) -> tuple[World, str | None]:
        _, sender, name, message = item
        at = 1 - sender
        step = self.table.step(world.daemons[at], "deliver", message)
        return self._after(world, at, step, without_item(world.items, item), name)

    def _answer(self, world: World, item: Item) -> tuple[World, str | None]:
        _, at, name, answer = item
        step = self.table.step(world.daemons[at], "answer", name, answer)
        return self._after(world, at, step, without_item(world.items, item))

    def _fail(self, world: World, item: Item) -> tuple[World, str | None]:
        """The sender of a message to a daemon that is down learns that."""
        _, at, name, _ = item
        step = self.table.step(world.daemons[at], "fail", name)
        return self._after(world, at, step, without_item(world.items, item))

    def _lose(self, world: World, item: Item) -> tuple[World, str | None]:
        """A sender waits no longer. The message may arrive later, and its answer goes nowhere."""
        kind, at, name, content = item
        items = list(world.items)
        items.remove(item)
        if kind == MESSAGE:
            items.append((kind, at, NOBODY, content))
        elif kind == CALL:
            items.append((kind, at, name, NOBODY))
            at, name = 1 - at, content
        step = self.table.step(world.daemons[at], "fail", name)
        return self._after(world._replace(losses=world.losses - 1), at, step, items)

    def _hang_up(self, world: World, item: Item) -> tuple[World, str | None]:
        _, at, name, _ = item
        step = self.table.step(world.daemons[at], "hang up", name)
        return self._after(world, at, step, without_item(world.items, item))

    def _write(self, world: World, at: int) -> tuple[World, str | None]:
        return self._after(world, at, self.table.step(world.daemons[at], "write"), world.items)

    def _tick(self, world: World, at: int) -> tuple[World, str | None]:
        step = self.table.step(world.daemons[at], "tick")
        return self._after(world._replace(ticks=world.ticks - 1), at, step, world.items)

    def _start(self, world: World, at: int) -> tuple[World, str | None]:
        return self._after(world, at, self.table.step(world.daemons[at], "start"), world.items)

    def _kill(self, world: World, at: int, written: int) -> tuple[World, str | None]:
        return self._dead(world, at, self.table.step(world.daemons[at], "kill", written))

    def _roll_back(self, world: World, at: int) -> tuple[World, str | None]:
        return self._dead(world, at, self.table.step(world.daemons[at], "roll back"))

    def _dead(self, world: World, at: int, step: Step) -> tuple[World, str | None]:
        """Fail the exchanges with a daemon that was killed, each at some moment."""
        items: list[Item] = []
        for item in world.items:
            kind, where, _, sender = item
            if kind != CALL or where != at:
                items.append(item)
            elif sender != NOBODY:
                items.append((ANSWER, 1 - at, sender, self.table.broken))
        clients = tuple(each._replace(waits_for=-1) if each.waits_for == at else each for each in world.clients)
        operator = world.operator
        if operator.at == at:
            operator = operator._replace(at=-1)
        world = world._replace(clients=clients, operator=operator, crashes=world.crashes - 1)
        return self._after(world, at, step, items)

    def _register(self, world: World, number: int, at: int) -> tuple[World, str | None]:
        client = world.clients[number]
        request = FIRST * (number + 1) + client.requests
        command = Register(self.discovery_id, Node(addr=ADDRESSES[number]), ADDRESSES[number])
        step = self.table.step(world.daemons[at], "request", request, command)
        client = client._replace(requests=client.requests + 1, waits_for=at)
        return self._after(with_client(world, number, client), at, step, world.items)

    def _cancel(self, world: World, number: int) -> tuple[World, str | None]:
        client = world.clients[number]
        at = client.waits_for
        step = self.table.step(world.daemons[at], "cancel", FIRST * (number + 1) + client.requests - 1)
        world = with_client(world, number, client._replace(waits_for=-1))
        return self._after(world._replace(losses=world.losses - 1), at, step, world.items)

    def _remove(self, world: World, number: int, at: int) -> tuple[World, str | None]:
        command = Remove(self.discovery_id, ADDRESSES[number])
        request = OPERATOR + world.operator.removed
        step = self.table.step(world.daemons[at], "request", request, command)
        operator = Operator(number, at, world.operator.removed + 1)
        return self._after(world._replace(operator=operator), at, step, world.items)

    def _after(self, world: World, at: int, step: Step, items: Any, sender: int = NOBODY) -> tuple[World, str | None]:
        """Return the world after a step of one daemon, to which `sender` is the number at the other
        of the message that it got.
        """
        failure = step.failure
        after, senders = renamed_items(items, at, step.renamed)
        senders[THIS] = sender
        if THIS in step.renamed:
            after.append((CALL, at, step.renamed[THIS], sender))
        for name, message in step.sent:
            after.append((MESSAGE, at, name, message))
        for call, answer in step.answered:
            if senders.get(call, NOBODY) != NOBODY:
                after.append((ANSWER, 1 - at, senders[call], answer))
        after.sort()
        daemons = (step.after, world.daemons[1]) if at == 0 else (world.daemons[0], step.after)
        clients, operator = world.clients, world.operator
        if step.after != world.daemons[at]:
            clients, wrong = self._check_decision(world, at, step)
            failure = failure or wrong
        for request, said in step.said:
            if request >= OPERATOR:
                operator = operator._replace(removes=-1 if said.is_done else operator.removes, at=-1)
            else:
                clients, wrong = client_answered(clients, request // FIRST - 1, said)
                failure = failure or wrong
        return World(daemons, tuple(after), clients, operator, world.crashes, world.losses, world.ticks), failure

    def _check_decision(self, world: World, at: int, step: Step) -> tuple[tuple[Client, ...], str | None]:
        """The owner may not grant a bootstrap while another address is acknowledged."""
        clients = world.clients
        if at != 0:
            return clients, None
        before, after = self.table.facts[world.daemons[at]], self.table.facts[step.after]
        if world.operator.removed and after.nodes is not None:
            clients = tuple(
                each._replace(is_told=False, is_acked=False)
                if each.is_acked and ADDRESSES[number] not in after.nodes and ADDRESSES[number] in (before.nodes or ())
                else each
                for number, each in enumerate(clients)
            )
        if after.granted is None or after.granted == before.granted:
            return clients, None
        lost = [
            address
            for address, each in zip(ADDRESSES, clients, strict=True)
            if each.is_acked and address != after.granted
        ]
        return clients, f"I4: {after.granted} is granted, though {lost[0]} was acknowledged" if lost else None


_APPLY: dict[str, Callable[..., tuple[World, str | None]]] = {
    "deliver": SmallWorld._deliver,
    "answer": SmallWorld._answer,
    "refuse": SmallWorld._fail,
    "lose": SmallWorld._lose,
    "hang up": SmallWorld._hang_up,
    "write": SmallWorld._write,
    "tick": SmallWorld._tick,
    "start": SmallWorld._start,
    "kill": SmallWorld._kill,
    "roll back": SmallWorld._roll_back,
    "register": SmallWorld._register,
    "cancel": SmallWorld._cancel,
    "remove": SmallWorld._remove,
}


def _prepare(small: SmallWorld, limits: Limits) -> tuple[list[Daemon], str]:
    """Let the daemons meet, and the first create the ID; return them and it."""
    table = small.table
    down = [Daemon("a", ("http://b",), limits), Daemon("b", ("http://a",), limits)]
    first, second = (table.add(each)[0] for each in down)
    world = World((first, second), (), (), Operator(), 0, 0, _FIRST_TICKS)
    for at in (0, 1):
        world = small.quiet(small.apply(world, ("start", at))[0])
    step = table.step(world.daemons[0], "request", OPERATOR, Create(bytes(14)))
    world = small.quiet(small._after(world, 0, step, world.items)[0])
    while world.ticks:
        at = world.ticks % 2
        world = small.quiet(small.apply(world, ("tick", at))[0])
    daemons = [table.daemon(each) for each in world.daemons]
    assert daemons[0].machine is not None
    return daemons, daemons[0].machine.state.store.ids()[0]
