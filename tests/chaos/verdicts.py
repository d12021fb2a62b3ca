"""What came of a life, in a word, and by what cause, as far as a program can tell."""

from __future__ import annotations

from typing import Any

from tests.chaos.daemons import Three
from tests.chaos.lifecycle import Lifecycle

UNEXPLAINED = "unexplained"
# The one way to a second cluster that no discovery service can close.
EXCUSED = "the seed lost its data within the window"
# Nodes that wait are told so, or are in a cluster.
ENDS_WELL = ("formed", "gone")


def verdict(lifecycle: Lifecycle) -> str:
    """`formed`, `two clusters`, `gone` where all are told so, `left out` of a cluster that there
    is, or `starved`.
    """
    if not lifecycle.id:
        return "never created"
    if lifecycle.second_clusters:
        return "two clusters"
    if lifecycle.is_formed or not lifecycle.nodes:
        return "formed"
    waiting = [node for node in lifecycle.nodes if node.cluster is None]
    # Nobody knows the ID any more, or whom its home had told.
    if all(node.last.startswith(("404 no such discovery ID", "410")) for node in waiting):
        return "gone"
    return "starved" if len(waiting) == len(lifecycle.nodes) else "left out"


def cause(lifecycle: Lifecycle, three: Three, record: Any) -> str:
    """Why a life did not end well, `record` being what its home says of it, None if there is no
    home.
    """
    if lifecycle.second_clusters and all(lifecycle.seeds_lost):
        return EXCUSED
    why = UNEXPLAINED if lifecycle.second_clusters or record is None else _cause_of_starving(lifecycle, three, record)
    owners = () if record is None else (record["home"], *record["was"])
    if record is None or record["lost"] or any(owner in three.lost for owner in owners):
        return f"{why}, and its home was lost"
    if any(owner in three.rolled_back for owner in owners):
        return f"{why}, and its home's disk was put back"
    return why


def _cause_of_starving(lifecycle: Lifecycle, three: Three, record: Any) -> str:
    nodes = {node.addr: node for node in lifecycle.all_nodes}
    told = record["leader"] or (record["grant"] and record["grant"]["addr"])
    if told in nodes:
        if nodes[told].has_seeded:
            return "the seed lost its data" if nodes[told].has_lost else UNEXPLAINED
        if record["leader"]:
            return "a claim's answer was lost"
        was_sent = {"granted", "again"} & set(three.answers_to(lifecycle.id, told, lifecycle.began))
        return f"a grant's answer was lost {'on its way to the node' if was_sent else 'between daemons'}"
    if told is None and lifecycle.seed_was_removed:
        return "the seed was removed while others were listed"
    if told is None and record["emptied_before"] and record["nodes"]:
        refused = three.listed_though_refused(lifecycle.id, record["home"], lifecycle.began)
        return f"listed from elsewhere after the list was emptied{' (though its owner refused)' if refused else ''}"
    return UNEXPLAINED
