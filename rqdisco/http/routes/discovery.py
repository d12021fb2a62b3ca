"""The routes of the discovery API."""

from __future__ import annotations

from rqdisco.http.api.discovery import DiscoveryAPI
from rqdisco.http.api.event_streams import EventsAPI
from rqdisco.http.api.explain import Explanation
from rqdisco.http.openapi.bodies import RegistrationBody, RemovalBody
from rqdisco.http.operations import (
    EVENTS,
    STRING,
    Endpoint,
    Parameter,
    ResponseHeader,
    ResponseSpec,
)
from rqdisco.http.requests.documents import FullDocument, LegacyDocument, ServiceDocument
from rqdisco.http.requests.responses import ErrorDocument
from rqdisco.http.routes.parts import FULL, OWNERLESS, RETRY_AFTER, UNKNOWN_ID, delete, endpoint, flag, get, post, put
from rqdisco.http.ui.pages import Pages

_AGE = ResponseHeader(
    "Age",
    "A copy: the seconds since the last contact with its owner, 2147483648 if there was none since the start.",
    {"type": "integer", "minimum": 0, "maximum": 2**31},
    is_required=False,
)
_TOO_FAST = ResponseSpec(
    "A client on another machine creates IDs faster than `--create-rate` allows.", ErrorDocument, [RETRY_AFTER]
)
_BAD_NODE = "The body is not an object with an address, or one of its values is invalid."
_UNDECIDED = (
    "The disk cannot be written; or the request could not be decided in time, or not without an unreachable peer, or"
    " not before a node that claimed to lead reports itself."
)

DISCOVERY: tuple[Endpoint, ...] = (
    endpoint(
        "/",
        ("discovery", "/"),
        DiscoveryAPI,
        get(
            DiscoveryAPI.describe,
            "getService",
            "Describe the service: its version and its number of IDs.",
            description="Where tokens are required, `ids` is left out without one.",
            right="known",
            token_optional=True,
            page=Pages.home,
            responses={
                200: ResponseSpec("The service.", ServiceDocument),
                303: ResponseSpec(
                    "To clients that prefer HTML, with `?id=`: the path of that ID's page.",
                    headers=[ResponseHeader("Location", "A path.")],
                ),
            },
        ),
        post(
            DiscoveryAPI.create,
            "create",
            "Create a discovery ID.",
            description="A body is ignored.",
            right="mint",
            responses={
                200: ResponseSpec("The new ID, without nodes.", LegacyDocument),
                429: _TOO_FAST,
                503: "The disk cannot be written, or there are as many IDs as `--max-ids` allows.",
            },
            links={"show": "Show the nodes.", "register": "Register a node.", "remove": "Remove a node."},
        ),
    ),
    endpoint(
        "/<id:discovery_id>",
        ("discovery", "/ID"),
        DiscoveryAPI,
        get(
            DiscoveryAPI.show,
            "show",
            "Show the registered nodes.",
            description="Also the leader, if there is one. A daemon that does not own the ID answers from a copy.",
            right="read",
            page=Pages.cluster,
            parameters=[
                flag("consistent", "Forward to the owner instead of answering from a copy."),
                flag("explain", "Explain the answer. Ignored unless an operator asks."),
            ],
            responses={
                200: ResponseSpec("The record.", (FullDocument, Explanation), [_AGE]),
                404: UNKNOWN_ID,
                503: "The owner is unreachable, or this daemon does not know yet whether the ID exists.",
            },
        ),
        post(
            DiscoveryAPI.register,
            "register",
            "Register a node, and return the nodes that it joins.",
            description=(
                "A node whose response lists only itself bootstraps the cluster; all others join one of the listed"
                " nodes. Of any number of concurrent registrations one is told to bootstrap."
            ),
            right="write",
            body="max-body",
            body_type=RegistrationBody,
            responses={
                200: ResponseSpec("The node is registered. All nodes of the ID, or it alone.", LegacyDocument),
                400: _BAD_NODE,
                404: UNKNOWN_ID,
                409: f"{FULL} Or a loopback address is listed or would be, and the nodes are not all on one machine.",
                410: OWNERLESS,
                503: _UNDECIDED,
            },
        ),
        put(
            DiscoveryAPI.create_named,
            "createNamed",
            "Create a discovery ID of this name.",
            description=(
                "A body is ignored. The name is not reserved, and does not have the form of a UUID. With peers, all of"
                " them must agree that there is no such ID. A named ID never expires."
            ),
            right="mint",
            is_creation=True,
            responses={
                201: ResponseSpec("The new ID, without nodes.", LegacyDocument),
                400: "No ID can have this name; the text says why.",
                409: "The ID exists already.",
                429: _TOO_FAST,
                503: "The disk cannot be written, or there are too many IDs, or peers do not agree; the text says why.",
            },
        ),
        delete(
            DiscoveryAPI.remove,
            "remove",
            "Remove a node.",
            description="An address that is not listed changes nothing. When no node is left, the next one bootstraps.",
            right="write",
            body="max-body",
            body_type=RemovalBody,
            responses={
                200: ResponseSpec("The node is not listed, or no longer.", LegacyDocument),
                400: _BAD_NODE,
                404: UNKNOWN_ID,
                503: _UNDECIDED,
            },
        ),
    ),
    endpoint(
        "/<id:discovery_id>/events",
        ("discovery", "/ID/events"),
        EventsAPI,
        get(
            EventsAPI.follow,
            "follow",
            "Stream the registered nodes, now and after each change, as server-sent events.",
            description="The data of an event is the document, in one line. The response does not end.",
            right="read",
            has_head=False,
            parameters=[
                Parameter(
                    "Last-Event-ID",
                    "The `id` of the last event received, which is not sent again.",
                    location="header",
                )
            ],
            responses={
                200: ResponseSpec("Events.", STRING, media_type=EVENTS),
                404: UNKNOWN_ID,
                503: "Too many watchers, or this daemon does not know yet whether the ID exists.",
            },
        ),
    ),
)
