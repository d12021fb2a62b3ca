"""The routes of consul-kv."""

from __future__ import annotations

from typing import Any

from rqdisco.http.api.consul import ConsulAPI, KVEntry
from rqdisco.http.openapi.bodies import LeaderBody
from rqdisco.http.operations import (
    STRING,
    TEXT,
    Endpoint,
    Parameter,
    ResponseHeader,
    ResponseSpec,
)
from rqdisco.http.routes.parts import FULL, OWNERLESS, delete, endpoint, get, put

_NUMBER: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}
CONSUL_HEADERS = (
    ResponseHeader("X-Consul-Index", "Rises with every change.", {"type": "integer", "minimum": 1}),
    ResponseHeader("X-Consul-KnownLeader", "Constant; Consul's clients expect it.", {"const": "true"}),
    ResponseHeader("X-Consul-LastContact", "Constant; Consul's clients expect it.", {"const": "0"}),
)
_CAS = Parameter("cas", "Only if this is the entry's `ModifyIndex`.", _NUMBER)
_FLAGS = Parameter("flags", "A number that is stored with the value.", _NUMBER)
_RAW = Parameter("raw", "The value alone, whatever the parameter's value.")
_IGNORED = tuple(
    Parameter(name, "Ignored.") for name in ("dc", "ns", "partition", "index", "wait", "stale", "consistent")
)
_BAD_QUERY = "`cas` or `flags` is not an unsigned 64-bit number, or a parameter is not supported."
_NOT_PUT = (
    "Nothing was changed: the disk cannot be written (`store unavailable`), or the text says why the request could not"
    " be decided."
)

CONSUL_KV: tuple[Endpoint, ...] = (
    endpoint(
        "/v1/kv/<id:discovery_id>/leader",
        ("consul", "/v1/kv/KEY"),
        ConsulAPI,
        get(
            ConsulAPI.read,
            "getLeader",
            "Read the leader.",
            right="read",
            parameters=[_RAW, *_IGNORED],
            responses={
                200: ResponseSpec(
                    "The entry; with `raw` its value, as it was put.", list[KVEntry], CONSUL_HEADERS, text=STRING
                ),
                400: _BAD_QUERY,
                404: ResponseSpec(
                    "There is no leader, or the one that claimed to lead has not reported itself.",
                    {"type": "string", "maxLength": 0},
                    CONSUL_HEADERS,
                    TEXT,
                ),
                503: _NOT_PUT,
            },
        ),
        put(
            ConsulAPI.put,
            "putLeader",
            "Report the leader, or claim to lead with `cas=0`.",
            description=(
                "With `cas=0` one node wins the key of an ID that has neither leader nor nodes, and is told to"
                " bootstrap; without `cas` it is a leader's report. The node is also registered. The winner is"
                " shown to nobody until it reports itself as leader, and until then the same `id` and `addr` win"
                " again, from another client after 30 seconds; with `--kv-visible-claims` a claim is shown at"
                " once, and won once. An ID that does not exist is created, unless `--kv-create no`."
            ),
            right="write",
            body="max-body",
            body_type=LeaderBody,
            parameters=[_CAS, _FLAGS, *_IGNORED],
            responses={
                200: ResponseSpec("Whether the value was put.", bool, CONSUL_HEADERS),
                400: f"The body is not a valid leader value; or the name is reserved; or {_BAD_QUERY}",
                403: "The ID does not exist, and `--kv-create no`.",
                404: "A daemon created this ID and no longer knows it, so a claim cannot create it: create a new one.",
                409: FULL,
                410: OWNERLESS,
                503: _NOT_PUT,
            },
        ),
        delete(
            ConsulAPI.clear,
            "deleteLeader",
            "Delete the key; the nodes stay.",
            description=(
                "A claim whose leader has not reported itself ends: before that, stop that node for good, or wipe"
                " its data directory."
            ),
            right="write",
            parameters=[_CAS, *_IGNORED],
            responses={
                200: ResponseSpec("Whether the key is now absent.", bool, CONSUL_HEADERS),
                400: f"The name is reserved; or {_BAD_QUERY}",
                503: _NOT_PUT,
            },
        ),
    ),
    # Keys that rqdisco does not support: undocumented, and always an error.
    endpoint(
        "/v1/kv",
        ("consul", "other"),
        ConsulAPI,
        get(ConsulAPI.refuse_empty_key, right="known"),
        put(ConsulAPI.refuse_empty_key, right="known"),
        delete(ConsulAPI.refuse_empty_key, right="known"),
    ),
    endpoint(
        "/v1/kv/<key:key>",
        ("consul", "/v1/kv/KEY"),
        ConsulAPI,
        get(ConsulAPI.read_other, right="read"),
        put(ConsulAPI.refuse_other, right="write"),
        delete(ConsulAPI.refuse_other, right="write"),
    ),
)
