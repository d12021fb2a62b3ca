"""The cost of requests, for the rate limits of clients. The unit is one lookup or registration.

A unit is 0.1 ms of CPU. A request that takes less than 1 ms costs one unit, even on a slow machine
or with a large record, so that nodes are limited only by their number of requests. The costs known
in advance are in the table of routes.
"""

from __future__ import annotations

_UNIT_SECONDS = 0.0001
LOOKUP_SECONDS = 0.001
# Bytes that take about as long as a unit.
_PAGE_BYTES = 1 << 10
_EXPORT_BYTES = 1 << 12
_EVENT_BYTES = 1 << 16
_EVENT = 0.25


def measured_cost(seconds: float) -> float:
    """Return the cost of a request that took `seconds` of CPU, more than LOOKUP_SECONDS."""
    return seconds / _UNIT_SECONDS


def page_cost(size: int) -> float:
    """Return the cost of rendering a page of `size` bytes."""
    return size / _PAGE_BYTES


def export_cost(size: int) -> float:
    """Return the cost of writing `size` bytes of an export."""
    return size / _EXPORT_BYTES


def event_cost(size: int) -> float:
    """Return the cost of sending an event of `size` bytes to one watcher. Encoding is shared by all
    watchers and not included.
    """
    return _EVENT + size / _EVENT_BYTES
