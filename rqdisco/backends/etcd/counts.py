"""Counts of requests to etcd: plain numbers, which become metrics only when `/metrics` is read."""

from __future__ import annotations

from collections import Counter

from rqdisco.telemetry.counters import Histogram


class EtcdCounts:
    """Requests by kind and outcome, and their durations in seconds with all repetitions.

    `switches` counts how often another endpoint was chosen, `resends` the copies of transactions
    whose outcome was not known, `renewals` the tokens fetched.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.seconds = Histogram()
        self.switches = 0
        self.resends = 0
        self.renewals = 0

    def ended(self, kind: str, outcome: str, seconds: float) -> None:
        """Count a request that took `seconds`."""
        self.requests[kind, outcome] += 1
        self.seconds.observe(seconds)
