"""Exchanges that the simulator leaves out would change nothing."""

from __future__ import annotations

from typing import Any

import pytest

from rqdisco.backends.gossip.core import exchange
from rqdisco.backends.gossip.core.state import Peer, State
from tests.simulated.faults import EXPIRY, FAULTS
from tests.simulated.rests import Rest, Rests
from tests.simulated.schedule import Fate
from tests.simulated.world import World


def _told(sender: State, receiver: Peer) -> dict[str, Any]:
    """Return what a digest would tell the daemon at a peer."""
    digest = exchange.digest(sender, receiver.fingerprint)
    return {
        "held": dict(digest.held),
        "expired": digest.expired,
        "fingerprint": digest.fingerprint,
        "fenced_reason": digest.sender_fenced,
        "has_unmet": digest.has_unmet,
        "newest_issued": digest.issued or digest.held.get(sender.own, 0),
    }


def _known(peer: Peer) -> dict[str, Any]:
    """Return what a daemon knows from a peer's digests."""
    names = ("held", "expired", "fingerprint", "fenced_reason", "has_unmet", "newest_issued")
    return {name: getattr(peer, name) for name in names}


@pytest.mark.parametrize("faults", [FAULTS, (*FAULTS, EXPIRY)], ids=["faults", "expiry"])
def test_daemons_whose_exchange_is_left_out_know_what_it_would_tell(
    monkeypatch: pytest.MonkeyPatch, faults: tuple[str, ...]
) -> None:
    put_off, put_off_round, end_soon = Rests.put_off, Rests.put_off_round, Rests.end_soon
    # Those in whose last second something changed.
    changed: set[Rest] = set()
    checked = 0

    def check(rests: Rests, peer: Peer) -> None:
        nonlocal checked
        boot = rests._boot
        other = boot.host.world.net.hosts[boot.links[peer.key].to].boot
        if peer.is_up and other is not None:
            back = other.state.peers[boot.owner]
            assert _known(back) == _told(boot.state, peer)
            assert _known(peer) == _told(other.state, back)
            assert peer.remote_clock is not None
            assert peer.remote_clock.session_number == peer.session_number
            checked += 1

    def check_ends(rests: Rests) -> bool:
        for key, rest in rests._rests.items():
            if rest.until <= rests._world.timeline.now and rest not in changed:
                check(rests, rests._boot.state.contacts[key])
        return put_off(rests)

    def check_begin(rests: Rests, peer: Peer, now: float) -> bool:
        check(rests, peer)
        return put_off_round(rests, peer, now)

    def note_change(rests: Rests) -> None:
        end_soon(rests)
        changed.update(rests._rests.values())

    monkeypatch.setattr(Rests, "end_soon", note_change)
    monkeypatch.setattr(Rests, "put_off", check_ends)
    monkeypatch.setattr(Rests, "put_off_round", check_begin)
    for seed in range(12):
        changed.clear()
        assert World(seed, 3, faults).run().violations == []
    assert checked > 100


def _rest_before_a_hello(*, is_ended_early: bool) -> tuple[Fate, Fate]:
    """Let a pair rest whose next message is a hello; return what happens to its next digest and
    hello.
    """
    choices = World(0, 3).choices
    choices.rates.set(loss=0.5)
    assert choices.rest("a b digest", "a b hello", 36) < 36
    choices.rates.set()
    if is_ended_early:
        choices.forget_next("a b hello")
    digest, hello = (choices.message(choices.stream(f"a b {verb}"))[0] for verb in ("digest", "hello"))
    return digest, hello


def test_the_message_at_the_end_of_a_rest_is_disturbed_as_drawn() -> None:
    digest, hello = _rest_before_a_hello(is_ended_early=False)
    assert digest == Fate()
    assert hello.lost or hello.answer_lost


def test_a_rest_that_a_change_ends_leaves_the_next_message_undisturbed() -> None:
    assert _rest_before_a_hello(is_ended_early=True) == (Fate(), Fate())
