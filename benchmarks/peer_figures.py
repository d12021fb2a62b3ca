"""The figures of three peer daemons, against one daemon and against three members of etcd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.load import puts, rqdisco_round, transactions
from benchmarks.processes import is_installed
from benchmarks.report import Row, load_rows, ratios

_VISIBLE = (250.0, 50.0)
_AGAINST_ONE = (0.4, 0.7)
_AGAINST_ETCD = (0.5, 1.0)
_IDLE = (2048.0, 512.0)
_CATCH_UP = (10.0, 3.0)

Run = Callable[[str, int, Callable[[Path], Any]], Any]


def peer_figures(run: Run, rounds: int, seconds: float, changed: int) -> tuple[list[Row], list[str]]:
    """Return rows and notes; `run` makes one round of something, `changed` is the number of IDs
    that a daemon misses in its absence.
    """
    has_wrk, has_etcd = is_installed("wrk"), is_installed("wrk", "etcd")
    bootstrap, together, theirs, same_job = [], [], [], []
    for number in range(rounds if has_wrk else 0):
        bootstrap.append(run("load, one daemon", number, lambda work: rqdisco_round(work, seconds)).registrations)
        together.append(run("load, three daemons", number, lambda work: peers.rqdisco_round(work, seconds)))
        if has_etcd:
            theirs.append(run("load, three of etcd", number, lambda work: peers.etcd_round(work, seconds, puts)))
            same_job.append(
                run("same job, three of etcd", number, lambda work: peers.etcd_round(work, seconds, transactions))
            )
    visible = [run("visible", number, peers.visible_round) for number in range(rounds)]
    traffic = [run("traffic", number, lambda work: peers.traffic_round(work, 20.0)) for number in range(rounds)]
    caught_up = [run("catch-up", number, peers.catch_up_round) for number in range(rounds)]
    absent = [run("absence", number, lambda work: peers.absence_round(work, changed)) for number in range(rounds)]
    rows = [
        *load_rows("registrations that a peer acknowledged", together),
        *load_rows("etcd, three members: durable puts", theirs),
        *load_rows("etcd, three members: the same job, in a transaction", same_job),
        Row(
            "registrations/s with acknowledgement against one daemon's",
            "ratio",
            ratios(together, bootstrap, "rate"),
            *_AGAINST_ONE,
            more_is_better=True,
        ),
        Row(
            "registrations/s with acknowledgement against puts/s of three members of etcd",
            "ratio",
            ratios(together, theirs, "rate"),
            *_AGAINST_ETCD,
            more_is_better=True,
        ),
        Row(
            "registrations/s with acknowledgement against the same job/s of three members of etcd",
            "ratio",
            ratios(together, same_job, "rate"),
            more_is_better=True,
        ),
        Row("visible at every peer: p50", "ms", [each.p50_ms for each in visible]),
        Row("visible at every peer: p99", "ms", [each.p99_ms for each in visible], *_VISIBLE),
        Row("idle traffic of a pair, 100,000 IDs", "B/s", [each.idle for each in traffic], *_IDLE),
        Row("traffic of one change, to two peers", "B", [each.change for each in traffic]),
        Row("a new peer catches up 100,000 IDs", "s", caught_up, *_CATCH_UP),
        Row(f"a peer that was away catches up {changed:,} IDs", "s", absent),
    ]
    notes = [
        "Peers: three daemons, or three members of etcd, and wrk on one machine; requests go to the owner of the IDs,"
        " or to etcd's leader, as one daemon's load does, which is measured again beside them. The same job is a"
        " transaction that puts a new node's key and reads all keys of its ID. CPU is that of the owner, or of the"
        " leader, alone. A registration is visible when the last of both peers lists it, counted from its answer, by"
        " polling both in turn as fast as they answer. Traffic is what TCP carried, both ways, without headers."
        f" Catching up is counted from the start of the process, imports included; {changed:,} IDs of three nodes each"
        f" are {4 * changed / 1000:,.0f} s of 1,000 changes a second: an ID and three nodes are four."
    ]
    return rows, notes
