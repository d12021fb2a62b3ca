"""The figures of well-behaved clients while others misbehave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.floods import CROWD, flood_names, floods_round
from benchmarks.pipelines import IDS, KINDS, NODES, pipelines_round
from benchmarks.report import Row

_HEALTHZ = (100.0, 30.0)
_FLOODED = (4.0, 2.0)

Run = Callable[[str, int, Callable[[Path], Any]], Any]


def pipelines_figures(run: Run, rounds: int, seconds: float) -> tuple[list[Row], list[str]]:
    """Return rows and notes; `run` makes one round of something."""
    runs = [run("pipelines", number, lambda work: pipelines_round(work, seconds)) for number in range(rounds)]
    rows = [
        Row("/healthz while nobody pipelines: p99", "ms", [each.quiet_ms for each in runs]),
        *(
            Row(
                f"/healthz while one client pipelines {kind.name}: p99",
                "ms",
                [each.by_kind_ms[kind.name] for each in runs],
            )
            for kind in KINDS
        ),
        Row(
            "/healthz while one client pipelines the worst of these: p99",
            "ms",
            [each.worst_ms for each in runs],
            *_HEALTHZ,
        ),
    ]
    notes = [
        f"Pipelines: {seconds:.0f} s for each kind of request, which a client on the same machine, exempt from"
        " limits per client, sends without pause in blocks of 25 KB on one connection, unless 10 are named, and whose"
        f" answers it reads. Pages and lists are of an ID of {NODES:,} nodes, exports of {IDS:,} IDs, by the operator's"
        " socket. A request for /healthz is due every 10 ms on another connection and is counted from then on, so that"
        " a stall counts for each that falls into it; the requests due after the last answer count until then."
    ]
    return rows, notes


def floods_figures(run: Run, rounds: int, seconds: float) -> tuple[list[Row], list[str]]:
    """Return rows and notes; `run` makes one round of something."""
    runs = [run("floods", number, lambda work: floods_round(work, seconds)) for number in range(rounds)]
    rows = []
    for index, name in enumerate(flood_names()):
        each = [results[index] for results in runs]
        who = f"good registrations under the flood {name}"
        rows += [
            Row(f"{who}: p99", "ms", [one.p99_ms for one in each]),
            Row(f"{who}: p99 just before it", "ms", [one.before_p99_ms for one in each]),
            Row(f"{who}: p99 against before", "ratio", [one.p99_ratio for one in each], *_FLOODED),
        ]
    notes = [
        f"Floods: those of `tests/integration/test_floods.py`, from a separate process on the same machine, for"
        f" {seconds:.0f} s each; lists are of an ID of {CROWD} nodes. A good node connects, registers and is"
        " answered, one node after another, from other addresses of the machine; each is new to its ID."
    ]
    return rows, notes
