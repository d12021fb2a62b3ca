"""The operator's limits on IDs, nodes and claims."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and switches of a directory.

    `retry_window_ms` is for how long a grant is repeated to its node, 0 for never; `max_ids` and
    `max_nodes` bound the IDs, and the nodes of one ID. `create_named` creates an ID when its leader
    key is put. `visible_claims` shows a claim before its leader reports itself, as Consul does.
    """

    retry_window_ms: int = 30_000
    max_ids: int | None = None
    max_nodes: int = 1000
    create_named: bool = True
    visible_claims: bool = False
