"""Judge the health of the cluster under an ID, from what a daemon knows. Pure.

Every API, page and metric shows this verdict, and none judges by itself.

A record with a leader key is of a cluster in consul-kv mode, where only leaders report. Its verdict
stands on the last report and on whether the leader answers probes, never on a quorum. All other
verdicts stand on probes.

Reasons name points in time instead of ages, so that a verdict changes only with what it says.
"""

from __future__ import annotations

from rqdisco.core.leaders import Leaders
from rqdisco.core.quorum import is_lone_grant, judge_probed
from rqdisco.core.records import LONG_CLAIM_SECONDS
from rqdisco.core.verdicts import Evidence, Health, ProbedNode, Verdict, probe_step, seconds_since, utc
from rqdisco.core.views import View

# rqlite 7.0-7.15 report a leader every 300 s, later ones every 10 s.
_REPORTED_RARELY_SECONDS = 600.0


def judge(view: View, evidence: Evidence) -> Verdict:
    """Judge the health of the cluster under an ID."""
    if evidence.two_leaders is not None:
        return _two_leaders(evidence.two_leaders)
    verdict = _judge_owned(view, evidence)
    if evidence.has_owner or verdict.health is Health.NO_QUORUM:
        return verdict
    return _ownerless(view, verdict)


def changes_with_time(view: View) -> bool:
    """Report whether the verdict may change although neither the record nor a probe does."""
    return view.claimed > 0 or view.leader is not None or is_lone_grant(view)


def _judge_owned(view: View, evidence: Evidence) -> Verdict:
    """Judge as if the ID had an owner."""
    if view.claimed and (not view.nodes or seconds_since(view.claimed_since, evidence) > LONG_CLAIM_SECONDS):
        return _claimed(view, evidence)
    if not view.nodes:
        return Verdict(
            Health.FORMING,
            "no nodes are registered yet: the first one bootstraps the cluster",
            f"start the nodes with the flags that `rqdisco flags {view.id} --rqlite VERSION` prints",
        )
    if view.leader is not None:
        return _judge_led(view, evidence) if view.confirmed else _claimed_visibly(view, evidence)
    return judge_probed(view, evidence)


def _two_leaders(leaders: Leaders) -> Verdict:
    return Verdict(
        Health.TWO_LEADERS,
        f"{leaders[0]} and {leaders[1]} both report that they lead: 2 clusters share this ID",
        "start no nodes, stop one of the clusters, and follow `Two clusters under one ID` in docs/rqlite.md",
    )


def _ownerless(view: View, verdict: Verdict) -> Verdict:
    nodes = f"{verdict.reason}; " if view.nodes else ""
    return Verdict(
        Health.OWNERLESS,
        f"{nodes}the owner of this ID is lost: no node is told to bootstrap under it any more",
        "create a new ID for the next cluster with `rqdisco create`; a running cluster may keep this one",
    )


def _claimed(view: View, evidence: Evidence) -> Verdict:
    """Judge an ID whose leader has claimed the leader key and is hidden until it reports."""
    times = "once" if view.claimed == 1 else f"{view.claimed} times"
    reason = f"a node won the claim to lead at {utc(view.claimed_since)}, was answered {times} and has not reported"
    if seconds_since(view.claimed_since, evidence) <= LONG_CLAIM_SECONDS:
        return Verdict(Health.FORMING, f"{reason} yet", "wait: a leader reports within a minute")
    return Verdict(
        Health.WAITING,
        f"{reason} for over {LONG_CLAIM_SECONDS:.0f} s: all other nodes wait for it",
        "the log of the daemon names the node: stop it for good, or wipe its data directory, then run"
        f" `rqdisco leader clear {view.id} --yes`",
    )


def _claimed_visibly(view: View, evidence: Evidence) -> Verdict:
    """Judge an ID whose leader has claimed the leader key, as all nodes can see, and not reported."""
    assert view.leader is not None
    leader = view.leader.addr
    reason = f"{leader} claimed to lead at {utc(view.leader.modified)}, {_answer(view, evidence)} and has not reported"
    if seconds_since(view.leader.modified, evidence) <= LONG_CLAIM_SECONDS:
        return Verdict(Health.FORMING, f"{reason} yet", "wait: a leader reports within a minute")
    return Verdict(
        Health.WAITING,
        f"{reason} for over {LONG_CLAIM_SECONDS:.0f} s: all other nodes wait for it",
        f"start {leader}; if it never leads, stop all nodes and run `rqdisco reset {view.id} --yes`",
    )


def _judge_led(view: View, evidence: Evidence) -> Verdict:
    """Judge an ID in consul-kv mode by its leader alone, which is all that reports."""
    assert view.leader is not None
    leader, probed = view.leader.addr, _probed_leader(view, evidence)
    was_stored_recently = seconds_since(view.leader.modified, evidence) <= LONG_CLAIM_SECONDS
    is_recent = was_stored_recently or evidence.reported_recently
    reported = f"last reported at {utc(view.leader.modified)}"
    if evidence.reported_recently and not was_stored_recently:
        reported = f"reported within the last {LONG_CLAIM_SECONDS:.0f} s"
    reason = f"the leader {leader} {reported} and {_answer(view, evidence)}"
    if probed is None or probed.up is None:
        if is_recent:
            return Verdict(Health.HEALTHY, reason)
        return Verdict(Health.UNKNOWN, reason, probe_step(evidence))
    if probed.up and probed.ready is not False:
        return _judge_answering(view, evidence, probed, reason)
    if is_recent:
        return Verdict(Health.DEGRADED, reason, "wait: another node reports within 10 s while most nodes are up")
    if probed.up:
        step = f"start enough other nodes that they elect a leader: the log of {leader} names those it cannot reach"
    else:
        step = f"start {leader}, or enough other nodes that they elect a leader"
    return Verdict(Health.WAITING, f"{reason}: nodes that join wait for a leader that reports", step)


def _judge_answering(view: View, evidence: Evidence, probed: ProbedNode, reason: str) -> Verdict:
    """Judge an ID whose leader answers, and does not deny being ready."""
    assert view.leader is not None
    leader = view.leader.addr
    age = seconds_since(view.leader.modified, evidence)
    if probed.ready or evidence.reported_recently or age <= _REPORTED_RARELY_SECONDS:
        return Verdict(Health.HEALTHY, reason)
    step = f"check that {leader} runs with -disco-mode consul-kv and -disco-key {view.id}"
    return Verdict(Health.DEGRADED, reason, step)


def _probed_leader(view: View, evidence: Evidence) -> ProbedNode | None:
    leader = view.leader
    node = next((each for each in view.nodes if leader is not None and each.addr == leader.addr), None)
    return None if node is None else evidence.probed(node)


def _answer(view: View, evidence: Evidence) -> str:
    """Return a clause about the probes of the node in the leader key."""
    probed = _probed_leader(view, evidence)
    if probed is None:
        return "is not probed"
    if probed.up is None:
        return "does not resolve"
    if not probed.up:
        return "does not answer"
    return "answers but is not ready" if probed.ready is False else "answers"
