"""What each part of a daemon says of itself. The names of all metrics are here alone; docs/metrics.md lists them.

A source looks at numbers that are kept anyway: with a million IDs none may take longer than with one.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sized

from prometheus_client.metrics_core import Metric

from rqdisco import __version__
from rqdisco.journal.folder import Folder
from rqdisco.journal.writer import Journal
from rqdisco.metrics.families import counter, counters, gauge, gauge_if_known, gauges, histogram, histograms
from rqdisco.observability.audit import AuditLog
from rqdisco.observability.counts import DNSCounts, Histogram, LookUpCounts, RequestCounts
from rqdisco.observability.events import ON_BEHALF, OutcomeCounts
from rqdisco.observability.waiting import MOST, WaitingClaims
from rqdisco.peers.report import MOST_LAG, PeersSeen
from rqdisco.probing.rounds import OUTCOMES, STATES, Rounds
from rqdisco.store import Store
from rqdisco.tally import Tally
from rqdisco.web.connections.site import BoundedSite
from twisted import __version__ as twisted_version

Source = Callable[[], Iterable[Metric]]

_RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 16: "BADVERS"}
_GRANTS = {
    "granted": ("registration", "granted"),
    "again": ("registration", "again"),
    "claim": ("claim", "granted"),
    "claim_again": ("claim", "again"),
}
# Shown from the start, so that the first one is a rise and not a series that was not there.
_EXPECTED = (
    ("mint", "minted"),
    *(("registration", outcome) for outcome in ("granted", "again", "listed", "refused", "unavailable")),
    ("removal", "removed"),
    ("expiry", "expired"),
    ("claim", "granted"),
    ("claim", "again"),
    ("claim", "lost"),
)
_EXPECTED_REFUSALS = [
    (door, reason)
    for door in ("discovery", "consul", "operator")
    for reason in ("disk", "undecided", "too_late", "orphaned", "fault")
]
_LABELS = {ON_BEHALF: "on_behalf"}


def build() -> Iterable[Metric]:
    """What is running."""
    labels = ("version", "python", "twisted")
    running = (__version__, platform.python_version(), twisted_version)
    yield gauges("rqdisco_build_info", "What is running; always 1.", labels, [(running, 1)])


def requests(counts: RequestCounts, refusals: Counter[tuple[str, str]]) -> Source:
    """What was asked over HTTP, and how it was answered."""

    def source() -> Iterable[Metric]:
        asked = [((*route, method), each) for (route, method), each in counts.asked.items()]
        yield counters(
            "rqdisco_requests",
            "Requests over HTTP that were answered.",
            ("door", "route", "method", "status"),
            (((*of, str(status)), count) for of, each in asked for status, count in each.statuses.items()),
        )
        yield histograms(
            "rqdisco_request_duration_seconds",
            "Seconds from a request that has arrived whole to its answer.",
            ("door", "route", "method"),
            ((of, each.seconds) for of, each in asked),
        )
        yield counters(
            "rqdisco_requests_abandoned",
            "Requests whose client was gone before they were answered.",
            ("door",),
            (((door,), count) for door, count in counts.abandoned.items()),
        )
        seen = {**dict.fromkeys(_EXPECTED_REFUSALS, 0), **refusals}
        yield counters(
            "rqdisco_refusals", "Requests that were refused, and for what.", ("door", "reason"), seen.items()
        )

    return source


def connections(sites: Mapping[str, BoundedSite]) -> Source:
    """Who is connected."""

    def source() -> Iterable[Metric]:
        open_ = [((name,), len(site.channels)) for name, site in sites.items()]
        yield gauges("rqdisco_connections", "Connections that are open.", ("listener",), open_)

    return source


def outcomes(counts: OutcomeCounts) -> Source:
    """What was changed, or was meant to be."""

    def source() -> Iterable[Metric]:
        seen = {**dict.fromkeys(_EXPECTED, 0), **counts.by_kind}
        yield counters(
            "rqdisco_changes",
            "Attempts to change something, and what came of them.",
            ("change", "outcome"),
            (((_label(change), _label(outcome)), count) for (change, outcome), count in seen.items()),
        )
        yield counters(
            "rqdisco_grants",
            "Answers that told a node that it is alone: granted, again within the window, or a claim that was won, or"
            " won again.",
            ("kind",),
            (((kind,), counts.by_kind[of]) for kind, of in _GRANTS.items()),
        )

    return source


def names(counts: DNSCounts) -> Source:
    """What was asked over DNS."""

    def source() -> Iterable[Metric]:
        yield counters(
            "rqdisco_dns_answers",
            "Answers over DNS.",
            ("transport", "rcode"),
            (((way, _RCODES.get(code, str(code))), count) for (way, code), count in counts.answers.items()),
        )
        yield histogram("rqdisco_dns_answer_duration_seconds", "Seconds from a question to its answer.", counts.seconds)
        yield counter("rqdisco_dns_limited", "Questions of sources that asked too much over UDP.", counts.limited)

    return source


def look_ups(counts: Mapping[str, LookUpCounts]) -> Source:
    """How the host names of nodes were looked up, by what for."""

    def source() -> Iterable[Metric]:
        yield counters(
            "rqdisco_look_ups",
            "Look-ups of registered host names, by what came of them.",
            ("use", "outcome"),
            (((use, outcome), count) for use, each in counts.items() for outcome, count in each.outcomes.items()),
        )
        yield counters(
            "rqdisco_kept_addresses",
            "Times that older addresses of a host name were used, since looking it up fails or takes too long.",
            ("use",),
            (((use,), each.kept) for use, each in counts.items()),
        )

    return source


def holdings(store: Store, tally: Tally, is_orphaned: Callable[[str], bool]) -> Source:
    """What is held. `is_orphaned` says whether nobody can be told to bootstrap under the IDs of a home."""

    def source() -> Iterable[Metric]:
        orphans = sum(count for home, lost, count in tally.homes() if lost or is_orphaned(home))
        yield gauge("rqdisco_ids", "Discovery IDs that are held, copies of other daemons' included.", len(store))
        # Not before all were looked at.
        yield gauge_if_known(
            "rqdisco_nodes",
            "Nodes that are registered under all IDs that are held.",
            tally.nodes if tally.is_whole else None,
        )
        yield gauge_if_known(
            "rqdisco_orphaned_ids",
            "IDs that lost their home and seed no cluster any more.",
            orphans if tally.is_whole else None,
        )

    return source


def claims(waiting: WaitingClaims) -> Source:
    """Who won a claim to lead and does not report itself."""

    def source() -> Iterable[Metric]:
        yield gauge(
            "rqdisco_claims_waiting",
            f"Claims that have waited for a leader's first report for more than a minute; {MOST} are counted at most.",
            waiting.count,
        )

    return source


def disk(journal: Journal, syncs: Histogram) -> Source:
    """What was written, and whether anything can be."""

    def source() -> Iterable[Metric]:
        yield counter("rqdisco_journal_written_bytes", "Bytes of records in the journal.", journal.bytes_written)
        yield counter(
            "rqdisco_journal_batches", "Batches that were made durable, each by one sync.", journal.batches_written
        )
        yield counter("rqdisco_journal_changes", "Changes that were made durable.", journal.changes_written)
        yield gauge(
            "rqdisco_journal_refusing",
            "1 if the last batch was refused for want of room, so that nothing can be changed.",
            journal.refused is not None,
        )
        yield histogram("rqdisco_journal_sync_duration_seconds", "Seconds that a sync of the journal took.", syncs)

    return source


def snapshots(folder: Folder) -> Source:
    """How fresh the snapshot is."""

    def source() -> Iterable[Metric]:
        yield gauge(
            "rqdisco_snapshot_age_seconds",
            "Seconds since the snapshot was last known to hold all there was.",
            folder.age,
        )
        yield gauge("rqdisco_snapshot_interval_seconds", "Seconds between snapshots, as set.", folder.interval)
        yield gauge_if_known("rqdisco_snapshot_duration_seconds", "Seconds that the last snapshot took.", folder.lasted)
        ended = [((outcome,), folder.outcomes[outcome]) for outcome in ("folded", "failed")]
        yield counters("rqdisco_snapshots", "Snapshots that were begun, by how they ended.", ("outcome",), ended)

    return source


def loop(late: Histogram) -> Source:
    """How long the reactor makes others wait."""

    def source() -> Iterable[Metric]:
        yield histogram(
            "rqdisco_reactor_delay_seconds", "Seconds by which a timer that rings each 100 ms is late.", late
        )

    return source


def peers(look: Callable[[], PeersSeen]) -> Source:
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
        yield gauge("rqdisco_established", "1 if IDs from before the start may be decided about.", seen.established)
        yield gauge("rqdisco_fenced", "1 if nothing is decided here until a restart: there is a twin.", seen.fenced)
        yield gauge("rqdisco_hints", "Registrations that are kept for a home that does not answer.", seen.hints)
        yield counter(
            "rqdisco_unwitnessed_changes",
            "Changes that no peer had within a second; grants among them were revoked.",
            seen.unwitnessed,
        )
        yield counter(
            "rqdisco_unwitnessed_grants",
            "Grants that were told while no peer was up to have them too.",
            seen.grants_alone,
        )

    return source


def probes(rounds: Rounds) -> Source:
    """How the nodes are, as far as this daemon sees."""

    def source() -> Iterable[Metric]:
        yield gauges(
            "rqdisco_probed_nodes",
            "Nodes by what their probes met; one that is registered several times counts once.",
            ("state",),
            (((state,), rounds.states[state]) for state in STATES),
        )
        yield counters(
            "rqdisco_probes",
            "Probes of nodes, by what they met.",
            ("outcome",),
            (((outcome,), rounds.outcomes[outcome]) for outcome in OUTCOMES),
        )
        yield gauge_if_known(
            "rqdisco_probe_round_seconds",
            "Seconds that the last look at all nodes took; more than --probe means that nodes are probed less often.",
            rounds.lasted,
        )

    return source


def leaders(watch: Sized) -> Source:
    """Where two clusters share an ID."""

    def source() -> Iterable[Metric]:
        yield gauge("rqdisco_two_leaders", "IDs with two leaders reporting, which means two clusters.", len(watch))

    return source


def audit(log: AuditLog) -> Source:
    """Whether the audit log is whole."""

    def source() -> Iterable[Metric]:
        yield counter("rqdisco_audit_lines", "Lines that were written to the audit log.", log.written)
        yield counter("rqdisco_audit_lost_lines", "Lines of the audit log that are lost.", log.lost)
        yield gauge("rqdisco_audit_failing", "1 if the audit log could not be written the last time.", log.is_failing)

    return source


def certificates(expiries: Callable[[], Mapping[str, float]]) -> Source:
    """`expiries` gives when each certificate ends, in seconds since 1970, by what it is called."""

    def source() -> Iterable[Metric]:
        yield gauges(
            "rqdisco_certificate_expiry_timestamp_seconds",
            "When a certificate ends, in seconds since 1970.",
            ("certificate",),
            (((name,), end) for name, end in expiries().items()),
        )

    return source


def _label(text: str) -> str:
    return _LABELS.get(text, text).replace(" ", "_")
