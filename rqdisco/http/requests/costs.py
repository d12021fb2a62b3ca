"""What requests cost, for the rate limits of clients. The unit is one lookup or registration.

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
    """What a request costs that took `seconds` of CPU, more than LOOKUP_SECONDS."""
    return seconds / _UNIT_SECONDS


def page_cost(size: int) -> float:
    """What rendering a page of `size` bytes costs."""
    return size / _PAGE_BYTES


def export_cost(size: int) -> float:
    """What writing `size` bytes of an export costs."""
    return size / _EXPORT_BYTES


def event_cost(size: int) -> float:
    """What sending an event of `size` bytes to one watcher costs; it is encoded once for all."""
    return _EVENT + size / _EVENT_BYTES
