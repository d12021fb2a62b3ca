"""Judge the health of a cluster by the probes of its nodes. Pure.

Any registered node counts as a voter, since the service does not store which nodes are read replicas.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from rqdisco.core.records import LONG_CLAIM_SECONDS, Node
from rqdisco.core.verdicts import (
    Evidence,
    Health,
    Verdict,
    count_of,
    name_some,
    probe_step,
    seconds_since,
    utc,
)
from rqdisco.core.views import View


def is_lone_grant(view: View) -> bool:
    """Report whether only the node that was told to bootstrap is registered, and no leader ever
    reported.
    """
    return len(view.nodes) == 1 and not view.confirmed and view.granted == view.nodes[0].addr


class _Tally(msgspec.Struct, frozen=True, kw_only=True):
    """The addresses of the voters by what probes found; `not_ready` are some of `up`."""

    total: int
    up: tuple[str, ...]
    down: tuple[str, ...]
    unresolved: tuple[str, ...]
    not_ready: tuple[str, ...]
    is_any_ready: bool

    @property
    def quorum(self) -> int:
        """The number of voters that make a quorum."""
        return self.total // 2 + 1

    @property
    def unprobed(self) -> int:
        """The number of voters of which probes have found nothing."""
        return self.total - len(self.up) - len(self.down) - len(self.unresolved)


def judge_probed(view: View, evidence: Evidence) -> Verdict:
    """Judge an ID by the probes of its nodes."""
    tally = _tally(view, evidence)
    if is_lone_grant(view) and tally.down and (verdict := _granted_and_down(view, evidence)) is not None:
        return verdict
    if tally.total - len(tally.down) < tally.quorum:
        return _without_quorum(view, tally)
    if len(tally.up) < tally.quorum:
        return _undecided(view, tally, evidence)
    if len(tally.not_ready) == len(tally.up):
        return _without_leader(view, tally, evidence)
    if problems := _problems(view, tally):
        reason, (_, step) = "; ".join(text for text, _ in problems), problems[0]
        return Verdict(Health.DEGRADED, reason, step)
    return Verdict(Health.HEALTHY, _count_up(tally))


def _tally(view: View, evidence: Evidence) -> _Tally:
    states = [(node.addr.removeprefix("http://"), evidence.probed(node)) for node in _voters(view.nodes)]
    up = [(addr, probed.ready) for addr, probed in states if probed is not None and probed.up]
    return _Tally(
        total=len(states),
        up=tuple(addr for addr, _ in up),
        down=tuple(addr for addr, probed in states if probed is not None and probed.up is False),
        unresolved=tuple(
            addr for addr, probed in states if probed is not None and probed.up is None and probed.unresolved
        ),
        not_ready=tuple(addr for addr, ready in up if ready is False),
        is_any_ready=any(ready for _, ready in up),
    )


def _voters(nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes, each once: old versions of rqlite register http:// before it, and a
    move to TLS leaves the address without https://.
    """
    return list({_host_and_port(node.addr): node for node in nodes}.values())


@lru_cache(maxsize=65_536)
def _host_and_port(addr: str) -> str:
    """Return an address without scheme, as DNS compares it."""
    host, colon, port = addr.removeprefix("http://").removeprefix("https://").lower().rpartition(":")
    return f"{host.removesuffix('.')}{colon}{port}"


def _granted_and_down(view: View, evidence: Evidence) -> Verdict | None:
    """Judge an ID whose only node was told to bootstrap and is down; None if it was up since."""
    node = view.nodes[0]
    probed, age = evidence.probed(node), seconds_since(view.version, evidence)
    # Versions are the wall clock's, and the node is probed some time after it registered.
    if probed is None or probed.since + LONG_CLAIM_SECONDS < age:
        return None
    reason = f"{node.addr} was told to bootstrap at {utc(view.version)} and has not answered since"
    if age <= LONG_CLAIM_SECONDS:
        return Verdict(Health.FORMING, reason, "wait: a node listens within a minute")
    return Verdict(
        Health.WAITING,
        f"{reason}: all other nodes wait for it",
        f"start {node.addr}; if it is gone for good, stop all nodes and run `rqdisco reset {view.id} --yes`",
    )


def _without_quorum(view: View, tally: _Tally) -> Verdict:
    reason = f"{_count_down(tally)}: no quorum"
    if not tally.up:
        # Behind a firewall that lets in only nodes, all look down.
        step = f"see that the machine of the daemon reaches them, and start {name_some(tally.down)}"
    elif tally.is_any_ready:
        # A node is ready only while it has a leader, so the cluster may have forgotten the others.
        step = (
            f"start {name_some(tally.down)}; if they are gone for good, and others are still ready in a minute,"
            f" remove them with `rqdisco prune {view.id} --down-for 24h`"
        )
    else:
        step = (
            f"start {name_some(tally.down)}; if too many nodes are gone for good, recover with"
            f" `rqdisco nodes {view.id} --format peers.json` as in docs/rqlite.md"
        )
    return Verdict(Health.NO_QUORUM, reason, step)


def _without_leader(view: View, tally: _Tally, evidence: Evidence) -> Verdict:
    """Judge an ID whose nodes run, but none has a leader: each node of a new cluster, for a moment."""
    reason = f"{_count_up(tally)}, and none is ready: they have no leader"
    if seconds_since(view.version, evidence) <= LONG_CLAIM_SECONDS:
        return Verdict(Health.FORMING, reason, "wait: nodes elect a leader within a minute")
    return Verdict(
        Health.NO_QUORUM,
        f"{reason}, so no quorum",
        f"look at the log of {name_some(tally.up)} for whom it cannot reach",
    )


def _undecided(view: View, tally: _Tally, evidence: Evidence) -> Verdict:
    """Judge an ID of whose nodes too many may be up or down."""
    problems = _problems(view, tally)
    if tally.unprobed:
        text = count_of(tally.unprobed, tally.total, "was not probed", "were not probed")
        problems = [(text, probe_step(evidence)), *problems]
    reason, (_, step) = "; ".join(text for text, _ in problems), problems[0]
    if tally.unprobed == tally.total:
        return Verdict(Health.UNKNOWN, reason, step)
    return Verdict(
        Health.UNKNOWN,
        f"{_count_up(tally)}, and a quorum is {tally.quorum}; {reason}",
        step,
    )


def _count_up(tally: _Tally) -> str:
    return count_of(len(tally.up), tally.total, "answers", "answer")


def _count_down(tally: _Tally) -> str:
    return count_of(len(tally.down), tally.total, "does not answer", "do not answer")


def _problems(view: View, tally: _Tally) -> list[tuple[str, str]]:
    """Return what is wrong with single nodes, each with the next step."""
    problems = []
    if tally.down:
        prune = f"`rqdisco prune {view.id} --down-for 24h`"
        step = f"start {name_some(tally.down)}, or remove nodes that are gone for good with {prune}"
        problems.append((_count_down(tally), step))
    if tally.unresolved:
        step = f"check the names in the DNS of the daemon: {name_some(tally.unresolved)}"
        problems.append((count_of(len(tally.unresolved), tally.total, "does not resolve", "do not resolve"), step))
    if tally.not_ready:
        step = f"look at the log of {name_some(tally.not_ready)}"
        problems.append(
            (count_of(len(tally.not_ready), tally.total, "does not reach a leader", "do not reach a leader"), step)
        )
    return problems
