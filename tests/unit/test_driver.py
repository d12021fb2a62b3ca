"""The driver around a machine: order, slices of time, clients that go away, and errors."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import Clock

from rqdisco.backends.gossip.core import effects, inputs
from rqdisco.backends.gossip.core.messages import Digest, encode_message
from rqdisco.backends.gossip.core.peer_errors import BadMessage, PeerUnreachable
from rqdisco.backends.gossip.driver import SLICE_SECONDS, Driver
from rqdisco.backends.gossip.environment import GossipEnvironment
from rqdisco.backends.gossip.transport.links import Link
from rqdisco.core.codec import Metadata
from rqdisco.core.errors import StoreUnavailable
from rqdisco.coroutines import HoldableResult, Running
from rqdisco.service.wiring.storage import open_storage
from rqdisco.storage.memory import metadata_change
from tests.support.any_daemon import WALL_US, memory_system
from tests.support.daemon import Threads, default_config, give_up, result
from tests.support.disk import ModelDisk

URL = "http://b"
DIGEST = Digest(held={}, fingerprint="x")


class SilentLink:
    """A link to a peer that never answers."""

    def greet(self, hello: bytes, seconds: float) -> Deferred[bytes]:
        return Deferred()

    def request(self, verb: str, body: bytes, seconds: float) -> Deferred[bytes]:
        return Deferred()


class RefusingLink(SilentLink):
    """A link to a peer that does not run."""

    def request(self, verb: str, body: bytes, seconds: float) -> Deferred[bytes]:
        return fail(PeerUnreachable("refused"))


class Driven:
    """A driver and the machine that it runs: `react` returns the effects of an input."""

    def __init__(self, link: Link | None = None) -> None:
        self.clock = Clock()
        self.received: list[inputs.Input] = []
        self.react: Callable[[Any], list[effects.Effect]] = lambda _: []
        self.state: Any = None
        system = memory_system(
            self.clock,
            Random(1),
            boot_id="boot-a",
            wall_us=lambda: WALL_US,
            uptime=self.clock.seconds,
            fail=pytest.fail,
        )
        self.disk = ModelDisk()
        self.threads = Threads()
        storage = open_storage(default_config(), system, self.disk, self.threads)
        machine: Any = self
        self.driver = Driver(
            lambda now: machine,
            storage.store,
            storage.journal,
            GossipEnvironment(
                clock=self.clock,
                link=lambda url: link or SilentLink(),
                now=storage.now,
                wall_us=system.wall_us,
                random=system.random,
            ),
            lambda discovery_id: None,
            lambda reason: None,
        )

    def receive(self, happened: inputs.Input, now: inputs.Now) -> list[effects.Effect]:
        self.received.append(happened)
        return self.react(happened)

    def take_effects(self) -> list[effects.Effect]:
        return []


@pytest.fixture
def driven() -> Driven:
    return Driven()


def reply_to(happened: Any, *, confirm: bool = False) -> list[effects.Effect]:
    """Reply to each request at once."""
    if isinstance(happened, inputs.Requested):
        return [effects.ClientReply(happened.number, "done", confirm)]
    return []


def test_an_input_that_the_machine_fails_on_is_logged_and_the_next_is_processed(
    driven: Driven, logged_errors: list[dict[str, Any]]
) -> None:
    def react(happened: Any) -> list[effects.Effect]:
        if happened.command == inputs.ThawStore():
            raise ZeroDivisionError
        return reply_to(happened)

    driven.react = react
    with pytest.raises(ZeroDivisionError):
        result(driven.driver.request(inputs.ThawStore()))
    assert result(driven.driver.request(inputs.RevokeStuck())) == "done"
    (error,) = logged_errors
    assert "ThawStore()" in error["input"]
    logged_errors.clear()


def test_a_message_that_the_machine_fails_on_is_answered(driven: Driven, logged_errors: list[dict[str, Any]]) -> None:
    def react(happened: Any) -> list[effects.Effect]:
        raise ZeroDivisionError

    driven.react = react
    with pytest.raises(ZeroDivisionError):
        result(driven.driver.serve("session", "digest", encode_message(DIGEST)))
    logged_errors.clear()


def test_what_happens_while_effects_are_performed_comes_afterwards_in_order() -> None:
    driven = Driven(RefusingLink())

    def react(happened: Any) -> list[effects.Effect]:
        sends = [effects.Send(number, URL, "digest", DIGEST, 1.0, 1) for number in (1, 2)]
        return [*sends, *reply_to(happened)] if isinstance(happened, inputs.Requested) else []

    driven.react = react
    asked = driven.driver.request(inputs.ThawStore())
    assert result(asked) == "done"
    assert [(type(each), getattr(each, "number", None)) for each in driven.received] == [
        (inputs.Requested, 1),
        (inputs.Failed, 1),
        (inputs.Failed, 2),
    ]


def test_others_have_their_turn_after_five_milliseconds_of_work() -> None:
    driven = Driven(RefusingLink())

    def react(happened: Any) -> list[effects.Effect]:
        driven.clock.rightNow += 0.7 * SLICE_SECONDS
        if happened == inputs.Started():
            return [effects.Send(number, URL, "digest", DIGEST, 1.0, 1) for number in range(4)]
        return []

    driven.react = react
    driven.driver.startService()
    seen = [len(driven.received)]
    driven.clock.callLater(0, lambda: seen.append(len(driven.received)))
    driven.clock.advance(0)
    assert seen == [2, 4]
    assert len(driven.received) == 5


def test_the_machine_hears_of_a_refusal_by_the_disk_before_it_decides_anything_more() -> None:
    """The store has discarded the changes by then. What was to follow them must not be written without them."""
    driven = Driven(RefusingLink())

    def react(happened: Any) -> list[effects.Effect]:
        driven.clock.rightNow += 0.7 * SLICE_SECONDS
        if happened != inputs.Started():
            return []
        change = metadata_change(Metadata(id="!x", owner="a", content="x"))
        sends = [effects.Send(number, URL, "digest", DIGEST, 1.0, 1) for number in range(3)]
        return [effects.Persist(1, (change,)), *sends]

    driven.react = react
    driven.disk.room, driven.threads.hold = 0, True
    driven.driver.startService()
    driven.threads.release_all()
    driven.clock.pump([0] * 5)
    kinds = [type(each) for each in driven.received]
    assert kinds == [inputs.Started, inputs.Failed, inputs.WriteRefused, inputs.Failed, inputs.Failed]


def test_a_message_that_cannot_be_sent_fails(logged_errors: list[dict[str, Any]]) -> None:
    """The machine waits for an outcome, and contacts that peer no more before."""

    class BrokenLink(SilentLink):
        def request(self, verb: str, body: bytes, seconds: float) -> Deferred[bytes]:
            raise ZeroDivisionError

    driven = Driven(BrokenLink())
    send = effects.Send(1, URL, "digest", DIGEST, 1.0, 1)
    driven.react = lambda happened: [send] if happened == inputs.Started() else []
    driven.driver.startService()
    assert [type(each) for each in driven.received] == [inputs.Started, inputs.Failed]
    logged_errors.clear()


def test_a_cancelled_request_is_cancelled_once_and_its_late_reply_goes_nowhere(driven: Driven) -> None:
    asked = driven.driver.request(inputs.ThawStore())
    give_up(asked)
    assert driven.received[1:] == [inputs.Cancelled(1)]
    driven.react = lambda happened: [effects.ClientReply(1, "late")]
    driven.driver.request(inputs.ThawStore())
    assert len(driven.received) == 3


def test_a_grant_counts_as_delivered_in_the_turn_of_its_answer(driven: Driven) -> None:
    driven.react = lambda happened: reply_to(happened, confirm=True)
    assert result(driven.driver.request(inputs.ThawStore())) == "done"
    assert driven.received[1:] == [inputs.Delivered(1, was_delivered=True)]


async def _ask(driven: Driven) -> Any:
    return await driven.driver.request(inputs.ThawStore())


def held_back(driven: Driven) -> Running[Any]:
    """Begin a request whose client may be gone by now, and reply to it."""
    asking = _ask(driven)
    waited = asking.send(None)
    assert isinstance(waited, HoldableResult)
    running = Running(asking, waited, lambda outcome: outcome)
    running.hold_results()
    driven.react = lambda happened: (
        [effects.ClientReply(1, "done", confirm=True)] if happened == inputs.Started() else []
    )
    driven.driver.startService()
    assert inputs.Delivered not in map(type, driven.received)
    return running


def test_a_grant_is_held_back_until_the_client_is_known_to_be_there(driven: Driven) -> None:
    running = held_back(driven)
    running.release_results()
    assert running.is_over
    assert driven.received[-1] == inputs.Delivered(1, was_delivered=True)


def test_a_grant_that_is_held_back_for_a_client_that_is_gone_is_not_delivered(driven: Driven) -> None:
    held_back(driven).cancel()
    assert driven.received[-1] == inputs.Delivered(1, was_delivered=False)
    assert inputs.Cancelled not in map(type, driven.received)


def test_a_grant_for_a_client_that_went_before_is_not_delivered(driven: Driven) -> None:
    give_up(driven.driver.request(inputs.ThawStore()))
    driven.react = lambda happened: (
        [effects.ClientReply(1, "done", confirm=True)] if happened == inputs.Started() else []
    )
    driven.driver.startService()
    assert driven.received[-1] == inputs.Delivered(1, was_delivered=False)


def test_a_sender_that_hangs_up_is_reported(driven: Driven) -> None:
    serving = driven.driver.serve("session", "digest", encode_message(DIGEST))
    serving.cancel()
    with pytest.raises(CancelledError):
        result(serving)
    assert driven.received == [inputs.Received(1, "session", "digest", DIGEST), inputs.HungUp(1)]


@pytest.mark.parametrize(("verb", "body"), [("digest", b"{"), ("shout", b"{}")])
def test_a_message_that_is_not_valid_still_shows_that_its_sender_is_alive(
    driven: Driven, verb: str, body: bytes
) -> None:
    def react(happened: Any) -> list[effects.Effect]:
        return [effects.Respond(happened.number, happened.message)]

    driven.react = react
    with pytest.raises(BadMessage):
        result(driven.driver.serve("session", verb, body))
    assert [(each.session, each.verb) for each in driven.received if isinstance(each, inputs.Received)] == [
        ("session", verb)
    ]


def test_it_ticks_at_the_last_moment_that_was_set_and_not_before(driven: Driven) -> None:
    wakes = iter([0.3, 0.1])
    driven.react = lambda happened: [effects.Wake(next(wakes))] if happened != inputs.Ticked() else []
    driven.driver.startService()
    driven.driver.request(inputs.ThawStore())
    driven.clock.advance(0.09)
    assert inputs.Ticked() not in driven.received
    driven.clock.advance(0.011)
    assert driven.received.count(inputs.Ticked()) == 1
    driven.clock.advance(1)
    assert driven.received.count(inputs.Ticked()) == 1


def test_a_stopped_driver_leaves_nothing_behind(driven: Driven) -> None:
    send = effects.Send(1, URL, "digest", DIGEST, 1.0, 1)
    driven.react = lambda happened: [send, effects.Wake(5.0)]
    driven.driver.startService()
    driven.driver.stopService()
    assert driven.clock.getDelayedCalls() == []
    driven.clock.advance(10)
    assert driven.received == [inputs.Started(), inputs.Stopped()]


def test_a_client_that_asks_again_at_once_does_not_come_between_the_results_of_one_batch(driven: Driven) -> None:
    def react(happened: Any) -> list[effects.Effect]:
        if isinstance(happened, inputs.Requested) and happened.number <= 2:
            change = metadata_change(Metadata(id=f"!x{happened.number}", owner="o", number=1))
            return [effects.Persist(happened.number, (change,))]
        if isinstance(happened, inputs.WriteRefused):
            return [effects.ClientReply(happened.number, StoreUnavailable(happened.reason))]
        return reply_to(happened)

    driven.react = react
    driven.threads.hold = True
    first, second = (driven.driver.request(inputs.ThawStore()) for _ in range(2))
    again: list[Deferred[Any]] = []
    first.addErrback(lambda _: again.append(driven.driver.request(inputs.RevokeStuck())))
    second.addErrback(lambda _: None)
    driven.clock.advance(0)
    driven.disk.room = 0
    driven.threads.release_all()
    after = [type(each) for each in driven.received if not isinstance(each, inputs.Requested) or each.number == 3]
    assert after == [inputs.WriteRefused, inputs.WriteRefused, inputs.Requested]
    assert result(again[0]) == "done"
