"""Metrics of the peers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.metrics_core import Metric

from rqdisco.backends.gossip.report import MOST_LAG, PeersSeen
from rqdisco.telemetry.metric_families import counter, gauge, gauges
from rqdisco.telemetry.metrics import Source


def peer_metrics(look: Callable[[], PeersSeen]) -> Source:
    """How this daemon and its peers get on."""

    def source() -> Iterable[Metric]:
        seen = look()
        labels = ("peer", "incarnation")
        # A name may be another's too, by mistake.
        each = [((peer.name, peer.incarnation), peer) for peer in seen.peers]
        yield gauges("rqdisco_peer_up", "1 if the peer answered last time.", labels, ((of, p.is_up) for of, p in each))
        yield gauges(
            "rqdisco_peer_lag_changes",
            f"This daemon's own records that changed since what the peer durably has; {MOST_LAG} are counted at most.",
            labels,
            ((of, p.lag) for of, p in each),
        )
        yield gauges(
            "rqdisco_peer_last_contact_seconds",
            "Seconds since the peer was last heard.",
            labels,
            ((of, p.contact) for of, p in each if p.contact is not None),
        )
        yield gauges(
            "rqdisco_peer_clock_offset_seconds",
            "By how many seconds the peer's wall clock is ahead; nothing depends on it.",
            labels,
            ((of, p.offset) for of, p in each if p.offset is not None),
        )
        yield gauge(
            "rqdisco_peers_agree", "1 if all are up, know the same members and have what was given out.", seen.agree
        )
        yield gauge("rqdisco_peers_never_met", "URLs of --peer at which nobody was met yet.", seen.never_met)
        yield gauge("rqdisco_ready", "1 if IDs from before the start may be decided about.", seen.ready)
        yield gauge("rqdisco_fenced", "1 if nothing is decided here until a restart: there is a twin.", seen.fenced)
        yield gauge("rqdisco_hints", "Registrations that are kept for a home that does not answer.", seen.hints)
        yield counter(
            "rqdisco_unreplicated_changes",
            "Changes that no peer had within a second; grants among them were revoked.",
            seen.unreplicated,
        )
        yield counter(
            "rqdisco_unreplicated_grants",
            "Grants that were told while no peer was up to have them too.",
            seen.unreplicated_grants,
        )

    return source
