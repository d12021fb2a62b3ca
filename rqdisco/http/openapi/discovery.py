"""The discovery API's operations."""

from __future__ import annotations

from functools import partial

from rqdisco.http.openapi.parts import (
    EVENTS,
    FAULT,
    RETRY_AFTER,
    TEXTUAL,
    Object,
    Operation,
    ResponseSpec,
    asked,
    body,
    error,
    flag_parameter,
    header,
    json,
    schema,
    unavailable,
)

ID: Object = {"name": "id", "in": "path", "required": True, "description": "A discovery ID.", "schema": schema("ID")}
_operation = partial(Operation, tag="discovery")
_AGE = {
    "Age": header(
        "A copy: the seconds since its home was last heard, 2147483648 if it was not since the start.",
        {"type": "integer", "minimum": 0, "maximum": 2**31},
        is_required=False,
    )
}
_LOCATION = {"Location": header("A path.", TEXTUAL)}
# What else is answered of any ID, and where a node comes or goes.
_OF_AN_ID = {404: error("There is no such ID."), 500: FAULT}
_OF_A_NODE = {
    **_OF_AN_ID,
    413: error("The body is larger than `--max-body`."),
    503: unavailable(
        "The disk takes nothing, or it could not be decided in time, or not without a peer that is silent, or not"
        " before a node that claimed to lead reports itself."
    ),
}


def _linked(operation: str, description: str) -> Object:
    return {
        "operationId": operation,
        "parameters": {"id": "$response.body#/disco_id"},
        "description": description,
    }


OPERATIONS = (
    _operation(
        path="/",
        method="get",
        name="getService",
        summary="The service: its version, and how much it holds.",
        description="Without a token, where there are tokens, `ids` is not told.",
        right="known",
        is_optional=True,
        head=True,
        has_page=True,
        replies={
            200: ResponseSpec("The service.", json("Service")),
            303: ResponseSpec(
                "To who prefers HTML, with `?id=` in the query: where the page of that ID is.", {}, _LOCATION
            ),
            500: FAULT,
        },
    ),
    _operation(
        path="/",
        method="post",
        name="mint",
        summary="Mint a discovery ID.",
        description="The body, if there is one, is ignored.",
        right="mint",
        replies={
            200: ResponseSpec("The new ID, under which nobody is registered.", json("Document")),
            429: ResponseSpec(
                "A client elsewhere mints faster than `--create-rate` allows.", json("Error"), RETRY_AFTER
            ),
            500: FAULT,
            503: unavailable("The disk takes nothing, or there are as many IDs as `--max-ids` allows."),
        },
        links={
            "show": _linked("show", "Who is registered."),
            "register": _linked("register", "Register a node."),
            "remove": _linked("remove", "Remove a node."),
        },
    ),
    _operation(
        path="/{id}",
        method="get",
        name="show",
        summary="Who is registered.",
        description="Who leads, too, if anybody does. At a daemon that is not the home of the ID it is a copy.",
        right="read",
        head=True,
        has_page=True,
        parameters=(ID, flag_parameter("consistent", "Ask the home, whatever is known here.")),
        replies={
            200: ResponseSpec("What is known of the ID.", json("FullDocument"), _AGE),
            **_OF_AN_ID,
            503: unavailable("The home does not answer, or this daemon cannot tell yet whether there is such an ID."),
        },
    ),
    _operation(
        path="/{id}/events",
        method="get",
        name="follow",
        summary="Who is registered, now and whenever that changes, as server-sent events.",
        description="The data of an event is the document, in one line. The answer does not end.",
        right="read",
        parameters=(
            ID,
            asked("Last-Event-ID", "The `id` of the last event that was seen, which is not sent again."),
        ),
        replies={
            200: ResponseSpec("Events.", {EVENTS: {"type": "string"}}),
            **_OF_AN_ID,
            503: unavailable("Too many watch already, or this daemon cannot tell yet whether there is such an ID."),
        },
    ),
    _operation(
        path="/{id}",
        method="post",
        name="register",
        summary="Register a node, and hear whom it joins.",
        description=(
            "A node whose answer lists nobody but itself bootstraps the cluster, all others join one of those that are"
            " listed. Of any number of concurrent registrations one is told to bootstrap."
        ),
        right="write",
        parameters=(ID,),
        body=body(schema("Registration")),
        replies={
            200: ResponseSpec("The node is registered. All nodes of the ID, or it alone.", json("Document")),
            400: error("The body is no object with an address, or one of its values is none that can be registered."),
            **_OF_A_NODE,
            409: error(
                "The ID has as many nodes as `--max-nodes` allows, or a loopback address is listed or would be, and the"
                " nodes are not all of one machine."
            ),
            410: error("The ID lost its home, and would have to seed a cluster: mint a new one."),
        },
    ),
    _operation(
        path="/{id}",
        method="delete",
        name="remove",
        summary="Remove a node.",
        description="An address that is not listed changes nothing. When nobody is left, the next one bootstraps.",
        right="write",
        parameters=(ID,),
        body=body(schema("Removal")),
        replies={
            200: ResponseSpec("The node is not registered, or not any more.", json("Document")),
            400: error("The body is no object with an address, or the address is none that can be registered."),
            **_OF_A_NODE,
        },
    ),
)
