"""The operations of the discovery API."""

from __future__ import annotations

from functools import partial

from rqdisco.http.openapi.parts import (
    EVENTS,
    INTERNAL_ERROR,
    RETRY_AFTER,
    STRING,
    Object,
    Operation,
    ResponseSpec,
    flag_parameter,
    header_parameter,
    json_content,
    json_error,
    json_unavailable,
    request_body,
    response_header,
    schema,
)

ID: Object = {"name": "id", "in": "path", "required": True, "description": "A discovery ID.", "schema": schema("ID")}
_operation = partial(Operation, tag="discovery")
_AGE = {
    "Age": response_header(
        "A copy: the seconds since the last contact with its owner, 2147483648 if there was none since the start.",
        {"type": "integer", "minimum": 0, "maximum": 2**31},
        is_required=False,
    )
}
_LOCATION = {"Location": response_header("A path.", STRING)}
# The errors of every operation on an ID, and of those on its nodes.
_ID_ERRORS = {404: json_error("The ID does not exist."), 500: INTERNAL_ERROR}
_NODE_ERRORS = {
    **_ID_ERRORS,
    413: json_error("The body is larger than `--max-body`."),
    503: json_unavailable(
        "The disk cannot be written; or the request could not be decided in time, or not without an unreachable peer,"
        " or not before a node that claimed to lead reports itself."
    ),
}


def _link(operation: str, description: str) -> Object:
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
        summary="Describe the service: its version and its number of IDs.",
        description="Where tokens are required, `ids` is left out without one.",
        right="known",
        is_optional=True,
        head=True,
        has_page=True,
        replies={
            200: ResponseSpec("The service.", json_content("Service")),
            303: ResponseSpec("To clients that prefer HTML, with `?id=`: the path of that ID's page.", {}, _LOCATION),
            500: INTERNAL_ERROR,
        },
    ),
    _operation(
        path="/",
        method="post",
        name="create",
        summary="Create a discovery ID.",
        description="A body is ignored.",
        right="mint",
        replies={
            200: ResponseSpec("The new ID, without nodes.", json_content("Document")),
            429: ResponseSpec(
                "A client on another machine creates IDs faster than `--create-rate` allows.",
                json_content("Error"),
                RETRY_AFTER,
            ),
            500: INTERNAL_ERROR,
            503: json_unavailable("The disk cannot be written, or there are as many IDs as `--max-ids` allows."),
        },
        links={
            "show": _link("show", "Show the nodes."),
            "register": _link("register", "Register a node."),
            "remove": _link("remove", "Remove a node."),
        },
    ),
    _operation(
        path="/{id}",
        method="get",
        name="show",
        summary="Show the registered nodes.",
        description="Also the leader, if there is one. A daemon that does not own the ID answers from a copy.",
        right="read",
        head=True,
        has_page=True,
        parameters=(ID, flag_parameter("consistent", "Forward to the owner instead of answering from a copy.")),
        replies={
            200: ResponseSpec("The record.", json_content("FullDocument"), _AGE),
            **_ID_ERRORS,
            503: json_unavailable("The owner is unreachable, or this daemon does not know yet whether the ID exists."),
        },
    ),
    _operation(
        path="/{id}/events",
        method="get",
        name="follow",
        summary="Stream the registered nodes, now and after each change, as server-sent events.",
        description="The data of an event is the document, in one line. The response does not end.",
        right="read",
        parameters=(
            ID,
            header_parameter("Last-Event-ID", "The `id` of the last event received, which is not sent again."),
        ),
        replies={
            200: ResponseSpec("Events.", {EVENTS: {"type": "string"}}),
            **_ID_ERRORS,
            503: json_unavailable("Too many watchers, or this daemon does not know yet whether the ID exists."),
        },
    ),
    _operation(
        path="/{id}",
        method="post",
        name="register",
        summary="Register a node, and return the nodes that it joins.",
        description=(
            "A node whose response lists only itself bootstraps the cluster; all others join one of the listed nodes."
            " Of any number of concurrent registrations one is told to bootstrap."
        ),
        right="write",
        parameters=(ID,),
        body=request_body(schema("Registration")),
        replies={
            200: ResponseSpec("The node is registered. All nodes of the ID, or it alone.", json_content("Document")),
            400: json_error("The body is not an object with an address, or one of its values is invalid."),
            **_NODE_ERRORS,
            409: json_error(
                "The ID has as many nodes as `--max-nodes` allows; or a loopback address is listed or would be, and the"
                " nodes are not all on one machine."
            ),
            410: json_error("The ID is ownerless, and would have to seed a cluster: create a new one."),
        },
    ),
    _operation(
        path="/{id}",
        method="delete",
        name="remove",
        summary="Remove a node.",
        description="An address that is not listed changes nothing. When no node is left, the next one bootstraps.",
        right="write",
        parameters=(ID,),
        body=request_body(schema("Removal")),
        replies={
            200: ResponseSpec("The node is not listed, or no longer.", json_content("Document")),
            400: json_error("The body is not an object with an address, or the address is invalid."),
            **_NODE_ERRORS,
        },
    ),
)
