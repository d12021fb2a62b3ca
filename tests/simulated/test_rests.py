"""Exchanges that the simulator leaves out would change nothing."""

from __future__ import annotations

from typing import Any

import pytest

from rqdisco.backends.gossip.core import exchange
from rqdisco.backends.gossip.core.state import Peer, State
from tests.simulated.faults import EXPIRY, FAULTS
from tests.simulated.rests import Rest, Rests
from tests.simulated.world import World


def _told(sender: State, receiver: Peer) -> dict[str, Any]:
    """Return what a digest would tell the daemon at a peer."""
    digest = exchange.digest(sender, receiver.fingerprint)
    return {
        "held": dict(digest.held),
        "expired": digest.expired,
        "fingerprint": digest.fingerprint,
        "stopped": digest.sender_fenced,
        "has_unmet": digest.has_unmet,
        "newest_issued": digest.issued or digest.held.get(sender.own, 0),
    }


def _known(peer: Peer) -> dict[str, Any]:
    """Return what a daemon knows from a peer's digests."""
    names = ("held", "expired", "fingerprint", "stopped", "has_unmet", "newest_issued")
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
