"""Shared parts of the tables of routes."""

from __future__ import annotations

from functools import partial

from rqdisco.http.operations import (
    ALL_AUDIENCES,
    Audience,
    Endpoint,
    Operation,
    Parameter,
    ResponseHeader,
)
from rqdisco.http.requests.api import Api
from rqdisco.telemetry.counters import Route

get, post, put, delete = (partial(Operation, method) for method in ("GET", "POST", "PUT", "DELETE"))
# What a client is charged before it is done, so that many requests at once are not all admitted: in
# lookups, a page of some hundred nodes, and the least that an export is worth. The rest follows
# when it is known (`requests/costs.py`).
PAGE_COST, EXPORT_COST = 50.0, 100.0


def endpoint(
    path: str, label: Route, api: type[Api], *operations: Operation, audiences: tuple[Audience, ...] = ALL_AUDIENCES
) -> Endpoint:
    """Return the entry of a path."""
    return Endpoint(path, label, api, operations, audiences)


def flag(name: str, description: str) -> Parameter:
    """Return a parameter that is on or off."""
    return Parameter(name, f"{description} On if `1` or empty; any other value is ignored.")


RETRY_AFTER = ResponseHeader("Retry-After", "Seconds to wait before a retry.", {"type": "integer", "minimum": 1})
UNKNOWN_ID = "The ID does not exist."
OWNERLESS = "The ID is ownerless, and would have to seed a cluster: create a new one."
FULL = "The ID has as many nodes as `--max-nodes` allows."
