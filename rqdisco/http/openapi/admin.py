"""The operations of the operator's API."""

from __future__ import annotations

from functools import partial

from rqdisco.http.openapi.parts import (
    INTERNAL_ERROR,
    Operation,
    ResponseSpec,
    json_content,
    json_error,
    json_unavailable,
    request_body,
    schema,
)

_operation = partial(Operation, tag="operator", right="admin", audiences=("guarded", "operator"))
_NO_PEERS = json_error("This daemon has no peers.")
# The errors of every operation that changes something, and of those on peers.
_CHANGE_ERRORS = {
    400: json_error("The body is invalid."),
    413: json_error("The body is larger than 16 MiB."),
    500: INTERNAL_ERROR,
    503: json_unavailable("The disk cannot be written, or peers cannot agree now."),
}
_PEER_ERRORS = {**_CHANGE_ERRORS, 404: _NO_PEERS, 409: json_error("Not possible now; the text says why.")}

OPERATIONS: tuple[Operation, ...] = (
    _operation(
        path="/operator/export",
        method="get",
        name="exportAll",
        summary="Export all IDs.",
        description="A document without its end could not be written completely.",
        replies={200: ResponseSpec("One JSON document with one record a line.", json_content("Export"))},
    ),
    _operation(
        path="/operator/import",
        method="post",
        name="importSome",
        summary="Import records of an export.",
        description=(
            "Existing IDs are never overwritten. With `adopt` this daemon becomes the owner of another daemon's"
            " IDs; otherwise nodes can join under such an ID, and none is told to bootstrap."
        ),
        body=request_body(schema("Batch")),
        replies={200: ResponseSpec("The outcome.", json_content("Imported")), **_CHANGE_ERRORS},
    ),
    _operation(
        path="/operator/peers",
        method="get",
        name="showPeers",
        summary="Show this daemon and its peers.",
        replies={
            200: ResponseSpec("All daemons and their state.", json_content("Peers")),
            404: _NO_PEERS,
            500: INTERNAL_ERROR,
        },
    ),
    _operation(
        path="/operator/peers/forget",
        method="post",
        name="forgetPeer",
        summary="Forget a peer that is lost for good; its IDs get a new owner.",
        body=request_body(schema("Forget")),
        replies={200: ResponseSpec("The peer is forgotten.", json_content("Forgotten")), **_PEER_ERRORS},
    ),
    _operation(
        path="/operator/drain",
        method="post",
        name="drain",
        summary="Hand over this daemon's IDs to another peer.",
        body=request_body(schema("Drain"), is_required=False),
        replies={200: ResponseSpec("Another peer owns them.", json_content("Drained")), **_PEER_ERRORS},
    ),
)
