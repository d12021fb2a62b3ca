"""The operations of the part of Consul's API that there is."""

from __future__ import annotations

from functools import partial

from rqdisco.http.openapi.discovery import ID
from rqdisco.http.openapi.parts import (
    JSON,
    RETRY_AFTER,
    TEXT,
    TEXTUAL,
    Operation,
    ResponseSpec,
    body,
    header,
    line,
    query,
    schema,
)
from rqdisco.http.openapi.schemas import NUMBER

_operation = partial(Operation, path="/v1/kv/{id}/leader", tag="consul-kv", words="text")
_HEADERS = {
    "X-Consul-Index": header("Rises with every change.", {"type": "integer", "minimum": 1}),
    "X-Consul-KnownLeader": header("What Consul's clients want to read.", {"const": "true"}),
    "X-Consul-LastContact": header("What Consul's clients want to read.", {"const": "0"}),
}
_IGNORED = (
    *(query(name, "Ignored.", TEXTUAL) for name in ("dc", "ns", "partition", "index", "wait")),
    *(query(name, "Ignored.", TEXTUAL) for name in ("stale", "consistent")),
)
_CAS = query("cas", "Only if this is the entry's `ModifyIndex`.", NUMBER)
_FLAGS = query("flags", "A number that is kept with the value.", NUMBER)
_BAD_QUERY = "`cas` or `flags` is no unsigned number of 64 bits, or there is a parameter that needs what is not there."
_TOO_LARGE = line("The body is larger than `--max-body`.", _HEADERS)
# What else is answered to whatever is asked.
_ALWAYS = {
    500: line("A fault of the daemon's; it is in its log.", _HEADERS),
    503: line(
        "Nothing was changed: the disk takes nothing (`store unavailable`), or it could not be decided, and why.",
        {**_HEADERS, **RETRY_AFTER},
    ),
}


def _done(description: str) -> ResponseSpec:
    return ResponseSpec(description, {JSON: {"type": "boolean"}}, _HEADERS)


OPERATIONS: tuple[Operation, ...] = (
    _operation(
        method="get",
        name="getLeader",
        summary="Read who leads.",
        right="read",
        head=True,
        parameters=(ID, query("raw", "The value alone, whatever this says.", TEXTUAL), *_IGNORED),
        replies={
            200: ResponseSpec(
                "The entry; with `raw` its value, as it was put.",
                {JSON: schema("Entries"), TEXT: {"type": "string"}},
                _HEADERS,
            ),
            400: line(_BAD_QUERY, _HEADERS),
            404: ResponseSpec(
                "Nobody leads, or who claimed to has not reported itself.",
                {TEXT: {"type": "string", "maxLength": 0}},
                _HEADERS,
            ),
            **_ALWAYS,
        },
    ),
    _operation(
        method="put",
        name="putLeader",
        summary="Say who leads, or claim to with `cas=0`.",
        description=(
            "With `cas=0` the key is won by one node of an ID that has neither leader nor nodes, which is then told"
            " that it is alone; without `cas` it is a leader's report. Who is put is also registered. Until a leader"
            " reports itself nobody is shown who won, and the same `id` and `addr` win again, from another client"
            " after 30 seconds; with `--kv-visible-claims` a claim is shown at once, and won once. An ID that is"
            " not known comes to be, unless `--kv-create no`."
        ),
        right="write",
        parameters=(ID, _CAS, _FLAGS, *_IGNORED),
        body=body(schema("LeaderValue")),
        replies={
            200: _done("Whether it was put."),
            400: line(f"The body is no such value; or the name is one of the service's own; or {_BAD_QUERY}", _HEADERS),
            403: line("There is no such ID, and `--kv-create no`.", _HEADERS),
            404: line(
                "A daemon created this ID and no longer knows it, so no claim makes it: take a new one.", _HEADERS
            ),
            409: line("The ID has as many nodes as `--max-nodes` allows.", _HEADERS),
            410: line("The ID lost its home, and would have to seed a cluster: take a new one.", _HEADERS),
            413: _TOO_LARGE,
            **_ALWAYS,
        },
    ),
    _operation(
        method="delete",
        name="deleteLeader",
        summary="Take the key away; the nodes stay.",
        description="A claim whose leader has not reported itself ends: before that, stop that node for good, or wipe"
        " its data directory.",
        right="write",
        parameters=(ID, _CAS, *_IGNORED),
        replies={
            200: _done("Whether it is not there any more."),
            400: line(f"The name is one of the service's own; or {_BAD_QUERY}", _HEADERS),
            **_ALWAYS,
        },
    ),
)
