"""Metrics of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.metrics_core import Metric

from rqdisco.backends.gossip.admin import MAX_LAG, ClusterStatus
from rqdisco.telemetry.metric_families import counter, gauge, gauges
from rqdisco.telemetry.metrics import MetricSource


def peer_metrics(status: Callable[[], ClusterStatus]) -> MetricSource:
    """State of the cluster as this daemon sees it."""

    def source() -> Iterable[Metric]:
        cluster = status()
        labels = ("peer", "incarnation")
        # Two peers may share a name by mistake, so label by incarnation too.
        each = [((peer.name, peer.incarnation), peer) for peer in cluster.peers]
        yield gauges(
            "rqdisco_peer_up", "1 if the peer answered the last request.", labels, ((of, p.is_up) for of, p in each)
        )
        yield gauges(
            "rqdisco_peer_lag_changes",
            f"This daemon's own records that changed since the peer's durable version; at most {MAX_LAG} are counted.",
            labels,
            ((of, p.lag) for of, p in each),
        )
        yield gauges(
            "rqdisco_peer_last_contact_seconds",
            "Seconds since the last contact with the peer.",
            labels,
            ((of, p.contact) for of, p in each if p.contact is not None),
        )
        yield gauges(
            "rqdisco_peer_clock_offset_seconds",
            "Seconds by which the peer's wall clock is ahead; no decision depends on it.",
            labels,
            ((of, p.offset) for of, p in each if p.offset is not None),
        )
        yield gauge(
            "rqdisco_peers_agree",
            "1 if all peers are up, list the same members, and have met all their own peers.",
            cluster.agree,
        )
        yield gauge("rqdisco_peers_never_met", "URLs of --peer that have never answered.", cluster.never_met)
        yield gauge("rqdisco_ready", "1 if this daemon may decide about IDs from before its start.", cluster.ready)
        yield gauge("rqdisco_fenced", "1 if this daemon is fenced: it decides nothing until a restart.", cluster.fenced)
        yield gauge("rqdisco_hints", "Registrations stored for owners that are unreachable.", cluster.hints)
        yield counter(
            "rqdisco_unreplicated_changes",
            "Changes that no peer acknowledged within a second; grants among them were revoked.",
            cluster.unreplicated,
        )
        yield counter(
            "rqdisco_unreplicated_grants",
            "Grants made while no peer was up to replicate them.",
            cluster.unreplicated_grants,
        )

    return source
