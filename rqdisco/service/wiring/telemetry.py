"""Builds the telemetry of a daemon: its counts, the audit log and the metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from rqdisco import __version__
from rqdisco.dns.metrics import dns_metrics
from rqdisco.http.metrics import request_metrics
from rqdisco.http.requests.request_ids import RequestIDs
from rqdisco.http.requests.runner import RequestTelemetry
from rqdisco.probes.metrics import resolution_metrics
from rqdisco.service.config import Config
from rqdisco.service.system import System
from rqdisco.service.worker_threads import WorkerThreads
from rqdisco.telemetry.audit import AuditLog
from rqdisco.telemetry.audit_file import AuditFile
from rqdisco.telemetry.counters import DNSCounts, Histogram, LookupCounts, RequestCounts
from rqdisco.telemetry.events import EventLog, Events, OutcomeCounts
from rqdisco.telemetry.metrics import MetricSource, build_metrics, outcome_metrics, reactor_metrics
from rqdisco.telemetry.reactor_delay import ReactorDelayMonitor
from rqdisco.telemetry.recent import RecentActivity


class Counts(msgspec.Struct, frozen=True):
    """The numbers that the parts of a daemon write and `/metrics` reads. `syncs` are the durations
    of the write-ahead log's syncs.
    """

    requests: RequestCounts
    outcomes: OutcomeCounts
    dns: DNSCounts
    dns_lookups: LookupCounts
    probe_lookups: LookupCounts
    syncs: Histogram


def new_counts() -> Counts:
    """Return counts that are all 0."""
    return Counts(RequestCounts(), OutcomeCounts(), DNSCounts(), LookupCounts(), LookupCounts(), Histogram())


def build_audit_log(config: Config, system: System, incarnation: str, threads: WorkerThreads) -> AuditLog | None:
    """Build the audit log and its thread; None without `--audit`."""
    if config.audit is None:
        return None
    about = {"version": __version__, "incarnation": incarnation}
    return AuditLog(system.reactor, AuditFile(config.audit), threads.add("audit"), system.wall_us, about)


def build_request_telemetry(
    system: System, counts: Counts, recent: RecentActivity, audit: AuditLog | None
) -> RequestTelemetry:
    """Build the event sinks of the APIs. Requests have names only where an audit log records
    them.
    """
    log = EventLog(system.wall_us)
    if audit is None:
        return RequestTelemetry(Events(log, counts.outcomes, recent))
    return RequestTelemetry(Events(log, counts.outcomes, recent, audit), RequestIDs(system.random))


def base_metrics(counts: Counts, telemetry: RequestTelemetry, delay: ReactorDelayMonitor) -> Sequence[MetricSource]:
    """Return the metrics of the parts that every daemon has."""
    lookups: Mapping[str, LookupCounts] = {"dns": counts.dns_lookups, "probes": counts.probe_lookups}
    return [
        build_metrics,
        reactor_metrics(delay.late),
        outcome_metrics(counts.outcomes),
        request_metrics(counts.requests, telemetry.refusals),
        dns_metrics(counts.dns),
        resolution_metrics(lookups),
    ]
