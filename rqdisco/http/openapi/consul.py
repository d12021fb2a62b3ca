"""The operations of the consul-kv API."""

from __future__ import annotations

from functools import partial

from rqdisco.http.openapi.discovery import ID
from rqdisco.http.openapi.parts import (
    JSON,
    RETRY_AFTER,
    STRING,
    TEXT,
    Operation,
    ResponseSpec,
    query_parameter,
    request_body,
    response_header,
    schema,
    text_error,
)
from rqdisco.http.openapi.schemas import NUMBER

_operation = partial(Operation, path="/v1/kv/{id}/leader", tag="consul-kv", error_format="text")
_HEADERS = {
    "X-Consul-Index": response_header("Rises with every change.", {"type": "integer", "minimum": 1}),
    "X-Consul-KnownLeader": response_header("Constant; Consul's clients expect it.", {"const": "true"}),
    "X-Consul-LastContact": response_header("Constant; Consul's clients expect it.", {"const": "0"}),
}
_IGNORED = tuple(
    query_parameter(name, "Ignored.", STRING)
    for name in ("dc", "ns", "partition", "index", "wait", "stale", "consistent")
)
_CAS = query_parameter("cas", "Only if this is the entry's `ModifyIndex`.", NUMBER)
_FLAGS = query_parameter("flags", "A number that is stored with the value.", NUMBER)
_BAD_QUERY = "`cas` or `flags` is not an unsigned 64-bit number, or a parameter is not supported."
_TOO_LARGE = text_error("The body is larger than `--max-body`.", _HEADERS)
# The errors of every operation.
_ERRORS = {
    500: text_error("An internal error, which is logged.", _HEADERS),
    503: text_error(
        "Nothing was changed: the disk cannot be written (`store unavailable`), or the text says why the request could"
        " not be decided.",
        {**_HEADERS, **RETRY_AFTER},
    ),
}


def _boolean(description: str) -> ResponseSpec:
    return ResponseSpec(description, {JSON: {"type": "boolean"}}, _HEADERS)


OPERATIONS: tuple[Operation, ...] = (
    _operation(
        method="get",
        name="getLeader",
        summary="Read the leader.",
        right="read",
        head=True,
        parameters=(ID, query_parameter("raw", "The value alone, whatever the parameter's value.", STRING), *_IGNORED),
        replies={
            200: ResponseSpec(
                "The entry; with `raw` its value, as it was put.",
                {JSON: schema("Entries"), TEXT: {"type": "string"}},
                _HEADERS,
            ),
            400: text_error(_BAD_QUERY, _HEADERS),
            404: ResponseSpec(
                "There is no leader, or the one that claimed to lead has not reported itself.",
                {TEXT: {"type": "string", "maxLength": 0}},
                _HEADERS,
            ),
            **_ERRORS,
        },
    ),
    _operation(
        method="put",
        name="putLeader",
        summary="Report the leader, or claim to lead with `cas=0`.",
        description=(
            "With `cas=0` one node wins the key of an ID that has neither leader nor nodes, and is told to bootstrap;"
            " without `cas` it is a leader's report. The node is also registered. The winner is shown to nobody until"
            " it reports itself as leader, and until then the same `id` and `addr` win again, from another client"
            " after 30 seconds; with `--kv-visible-claims` a claim is shown at once, and won once. An ID that does not"
            " exist is created, unless `--kv-create no`."
        ),
        right="write",
        parameters=(ID, _CAS, _FLAGS, *_IGNORED),
        body=request_body(schema("LeaderValue")),
        replies={
            200: _boolean("Whether the value was put."),
            400: text_error(
                f"The body is not a valid leader value; or the name is reserved; or {_BAD_QUERY}", _HEADERS
            ),
            403: text_error("The ID does not exist, and `--kv-create no`.", _HEADERS),
            404: text_error(
                "A daemon created this ID and no longer knows it, so a claim cannot create it: create a new one.",
                _HEADERS,
            ),
            409: text_error("The ID has as many nodes as `--max-nodes` allows.", _HEADERS),
            410: text_error("The ID is ownerless, and would have to seed a cluster: create a new one.", _HEADERS),
            413: _TOO_LARGE,
            **_ERRORS,
        },
    ),
    _operation(
        method="delete",
        name="deleteLeader",
        summary="Delete the key; the nodes stay.",
        description="A claim whose leader has not reported itself ends: before that, stop that node for good, or wipe"
        " its data directory.",
        right="write",
        parameters=(ID, _CAS, *_IGNORED),
        replies={
            200: _boolean("Whether the key is now absent."),
            400: text_error(f"The name is reserved; or {_BAD_QUERY}", _HEADERS),
            **_ERRORS,
        },
    ),
)
