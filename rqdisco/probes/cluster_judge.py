"""The one judge of clusters in a daemon: it joins what the parts of the daemon know."""

from __future__ import annotations

from collections.abc import Callable

from rqdisco.backends.leader_monitor import LeaderMonitor, raft_address
from rqdisco.core.directory import Directory
from rqdisco.core.judgement import judge
from rqdisco.core.records import Node
from rqdisco.core.verdicts import Evidence, Verdict
from rqdisco.core.views import View
from rqdisco.probes.node_health import NodeHealth


class ClusterJudge:
    """Judges the health of the cluster under an ID.

    `node_health` is None for a daemon that probes no nodes. `wall_us` returns the wall clock in
    microseconds since 1970, as the versions of records do in milliseconds.
    """

    def __init__(
        self,
        directory: Directory,
        node_health: NodeHealth | None,
        leaders: LeaderMonitor | None,
        wall_us: Callable[[], int],
    ) -> None:
        self._directory = directory
        self._probed = _not_probed if node_health is None else node_health.status
        self._is_probing = node_health is not None
        self._leaders = leaders
        self._wall_us = wall_us

    def __call__(self, view: View) -> Verdict:
        """Judge the cluster under the ID of a view."""
        leaders, leader = self._leaders, view.leader
        evidence = Evidence(
            probed=self._probed,
            is_probing=self._is_probing,
            has_owner=self._directory.has_owner(view),
            two_leaders=None if leaders is None else leaders.of(view.id),
            reported_recently=leaders is not None
            and leader is not None
            and leaders.reported_recently(view.id, raft_address(view, leader)),
            now_ms=self._wall_us() // 1000,
        )
        return judge(view, evidence)


def _not_probed(_: Node) -> None:
    """The status of any node where there are no probes."""
