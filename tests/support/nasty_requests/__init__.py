"""Requests that servers and proxies are known to disagree about, and what this server does with each.

RFC 9112 and RFC 9110 decide. Where they leave a choice, either outcome is right, but it is the same
however the bytes arrive.
"""

from __future__ import annotations

from tests.support.nasty_requests import chunks, connections, heads, lengths, request_lines

NASTY_REQUESTS = tuple(
    row
    for rows in (
        request_lines.request_lines,
        request_lines.targets,
        heads.lines,
        heads.hosts,
        heads.sizes,
        lengths.two_lengths,
        lengths.codings,
        lengths.lengths,
        chunks.chunks,
        chunks.trailers,
        connections.upgrades,
        connections.expectations,
        connections.connections,
        connections.pipelines,
        connections.strangers,
    )
    for row in rows()
)
