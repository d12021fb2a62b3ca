"""The command list, which prints all IDs of a service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from rqdisco.cli.app import DONE, App, operator_failure
from rqdisco.cli.durations import format_duration
from rqdisco.cli.node_formats import ListFormat
from rqdisco.client import ClusterSummary, Refused

_COLUMNS = ("ID", "HEALTH", "NODES", "AGE", "LEADER", "LAST REPORT")
# Rows of one table: on a terminal the first ones appear soon.
_ROWS_AT_ONCE = 1000


async def list_clusters(app: App, search: str, health: str, limit: int | None, form: ListFormat) -> int:
    """Print the IDs that match, `limit` at most."""
    try:
        async with aclosing(app.client.clusters(search, health=health)) as found:
            clusters = found if limit is None else _first(found, limit)
            if form == "json":
                await _print_json(app, clusters)
            elif form == "ids":
                await _print_ids(app, clusters)
            else:
                await _print_table(app, clusters, is_filtered=bool(search or health))
    except Refused as error:
        raise operator_failure(error) from None
    return DONE


async def _first(clusters: AsyncIterator[ClusterSummary], limit: int) -> AsyncIterator[ClusterSummary]:
    left = limit
    async for cluster in clusters:
        yield cluster
        left -= 1
        if not left:
            return


async def _print_table(app: App, clusters: AsyncIterator[ClusterSummary], *, is_filtered: bool) -> None:
    rows: list[tuple[str, ...]] = []
    is_empty = True
    async for cluster in clusters:
        is_empty = False
        rows.append(_row(cluster))
        if len(rows) == _ROWS_AT_ONCE:
            app.output.table("", _COLUMNS, rows)
            rows = []
    if rows:
        app.output.table("", _COLUMNS, rows)
    if is_empty:
        app.output.message("no IDs match" if is_filtered else "there are no IDs; `rqdisco create` creates one")


async def _print_json(app: App, clusters: AsyncIterator[ClusterSummary]) -> None:
    with app.output.array() as add:
        async for cluster in clusters:
            add(cluster)


async def _print_ids(app: App, clusters: AsyncIterator[ClusterSummary]) -> None:
    async for cluster in clusters:
        app.output.line(cluster.disco_id)


def _row(cluster: ClusterSummary) -> tuple[str, ...]:
    age = format_duration(cluster.age)
    leader, reported = cluster.leader or "-", cluster.reported or "-"
    return cluster.disco_id, cluster.health or "-", str(cluster.nodes), age, leader, reported
