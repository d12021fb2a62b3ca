"""The outcome of a lifecycle, and its cause, as far as a program can find it."""

from __future__ import annotations

from typing import Any

from tests.chaos.daemons import ThreeDaemons
from tests.chaos.lifecycle import Lifecycle

UNEXPLAINED = "unexplained"
# The one way to a second cluster that no discovery service can close.
EXCUSED = "the seed lost its data within the window"
# Nodes that wait are told so, or are in a cluster.
ENDS_WELL = ("formed", "gone")


def verdict(lifecycle: Lifecycle) -> str:
    """Return `formed`, `two clusters`, `gone` where all nodes are told so, `left out` of an
    existing cluster, or `starved`.
    """
    if not lifecycle.id:
        return "never created"
    if lifecycle.second_clusters:
        return "two clusters"
    if lifecycle.is_formed or not lifecycle.nodes:
        return "formed"
    waiting = [node for node in lifecycle.nodes if node.cluster is None]
    # Nobody holds the ID any more, or nobody knows whom its owner had granted.
    if all(node.last.startswith(("404 no such discovery ID", "410")) for node in waiting):
        return "gone"
    return "starved" if len(waiting) == len(lifecycle.nodes) else "left out"


def cause(lifecycle: Lifecycle, three: ThreeDaemons, record: Any) -> str:
    """Return why a lifecycle did not end well; `record` is the explanation of its owner, None if
    there is no owner.
    """
    if lifecycle.second_clusters and all(lifecycle.seeds_lost):
        return EXCUSED
    why = UNEXPLAINED if lifecycle.second_clusters or record is None else _cause_of_starving(lifecycle, three, record)
    owners = () if record is None else (record["home"], *record["was"])
    if record is None or record["lost"] or any(owner in three.lost for owner in owners):
        return f"{why}, and its owner was lost"
    if any(owner in three.rolled_back for owner in owners):
        return f"{why}, and its owner's disk was restored"
    return why


def _cause_of_starving(lifecycle: Lifecycle, three: ThreeDaemons, record: Any) -> str:
    nodes = {node.addr: node for node in lifecycle.all_nodes}
    granted = record["leader"] or (record["grant"] and record["grant"]["addr"])
    if granted in nodes:
        if nodes[granted].has_seeded:
            return "the seed lost its data" if nodes[granted].has_lost else UNEXPLAINED
        if record["leader"]:
            return "a claim's answer was lost"
        was_sent = {"granted", "again"} & set(three.answers_to(lifecycle.id, granted, lifecycle.began))
        return f"a grant's answer was lost {'on its way to the node' if was_sent else 'between daemons'}"
    if granted is None and lifecycle.seed_was_removed:
        return "the seed was removed while others were listed"
    if granted is None and record["emptied_before"] and record["nodes"]:
        refused = three.listed_though_refused(lifecycle.id, record["home"], lifecycle.began)
        return f"listed from elsewhere after the list was emptied{' (though its owner refused)' if refused else ''}"
    return UNEXPLAINED
