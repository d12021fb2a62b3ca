"""What only operators may ask."""

from __future__ import annotations

from functools import partial

from rqdisco.http.openapi.parts import FAULT, Operation, ResponseSpec, body, error, json, schema, unavailable

_operation = partial(Operation, tag="operator", right="admin", audiences=("guarded", "operator"))
_NO_PEERS = error("This daemon has no peers.")
# What else is answered where something is to change, and where that is about peers.
_OF_A_CHANGE = {
    400: error("The body is not what it should be."),
    413: error("The body is larger than 16 MiB."),
    500: FAULT,
    503: unavailable("The disk takes nothing, or peers cannot agree now."),
}
_OF_A_PEER = {**_OF_A_CHANGE, 404: _NO_PEERS, 409: error("That cannot be now; the text says why.")}

OPERATIONS: tuple[Operation, ...] = (
    _operation(
        path="/operator/export",
        method="get",
        name="exportAll",
        summary="All IDs.",
        description="A document that breaks off is one that could not be written to its end.",
        replies={200: ResponseSpec("One JSON document with one record a line.", json("Export"))},
    ),
    _operation(
        path="/operator/import",
        method="post",
        name="importSome",
        summary="Take over records of an export.",
        description=(
            "What is known already is never overwritten. With `adopt` this daemon becomes the home of what was"
            " another's; otherwise such an ID is listed and joined, and seeds no cluster."
        ),
        body=body(schema("Batch")),
        replies={200: ResponseSpec("What came of it.", json("Imported")), **_OF_A_CHANGE},
    ),
    _operation(
        path="/operator/peers",
        method="get",
        name="showPeers",
        summary="This daemon and its peers.",
        replies={200: ResponseSpec("All of them, and their state.", json("Peers")), 404: _NO_PEERS, 500: FAULT},
    ),
    _operation(
        path="/operator/peers/forget",
        method="post",
        name="forgetPeer",
        summary="A peer is lost for good; its IDs get a new home.",
        body=body(schema("Forget")),
        replies={200: ResponseSpec("It is forgotten.", json("Forgotten")), **_OF_A_PEER},
    ),
    _operation(
        path="/operator/drain",
        method="post",
        name="drain",
        summary="Another peer becomes the home of this daemon's IDs.",
        body=body(schema("Drain"), is_required=False),
        replies={200: ResponseSpec("It is.", json("Drained")), **_OF_A_PEER},
    ),
)
