"""The HTTP API in one table: every path, its methods, what they need, cost and answer.

The router (`router.py`) answers requests by it, and the OpenAPI document describes it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from rqdisco.core.exports import Batch
from rqdisco.core.verdicts import Health
from rqdisco.http.api.admin import OperatorAPI
from rqdisco.http.api.cluster_search import DEFAULT_CLUSTERS, MAX_CLUSTERS, ClusterList
from rqdisco.http.api.clusters import MAX_SEARCH, ClustersAPI
from rqdisco.http.api.consul import ConsulAPI, KVEntry
from rqdisco.http.api.discovery import DiscoveryAPI
from rqdisco.http.api.event_streams import EventsAPI
from rqdisco.http.api.explain import Explanation
from rqdisco.http.api.health import HealthAPI, Liveness, Readiness
from rqdisco.http.api.metrics import MetricsAPI
from rqdisco.http.api.operator_documents import (
    DrainAnswer,
    DrainRequest,
    ForgetAnswer,
    ForgetPreviewAnswer,
    ForgetRequest,
    FreezeAnswer,
    FreezeRequest,
    ImportAnswer,
    PeersAnswer,
)
from rqdisco.http.openapi.bodies import BackupDocument, ExportDocument, LeaderBody, RegistrationBody, RemovalBody
from rqdisco.http.openapi.page import OpenAPIDocument
from rqdisco.http.operations import (
    ALL_AUDIENCES,
    EVENTS,
    HTML,
    ID_PATTERN,
    STRING,
    TEXT,
    Audience,
    Endpoint,
    Operation,
    Parameter,
    ResponseHeader,
    ResponseSpec,
)
from rqdisco.http.requests.api import Api
from rqdisco.http.requests.documents import FullDocument, LegacyDocument, ServiceDocument
from rqdisco.http.requests.responses import ErrorDocument
from rqdisco.http.ui.pages import Pages
from rqdisco.telemetry.counters import Route

_get, _post, _put, _delete = (partial(Operation, method) for method in ("GET", "POST", "PUT", "DELETE"))

# What a client is charged before it is done, so that many requests at once are not all admitted: in
# lookups, a page of some hundred nodes, and the least that an export is worth. The rest follows
# when it is known (`requests/costs.py`).
PAGE_COST, _EXPORT_COST = 50.0, 100.0
_NUMBER: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}


def _at(
    path: str, label: Route, api: type[Api], *operations: Operation, audiences: tuple[Audience, ...] = ALL_AUDIENCES
) -> Endpoint:
    return Endpoint(path, label, api, operations, audiences)


def _flag(name: str, description: str) -> Parameter:
    return Parameter(name, f"{description} On if `1` or empty; any other value is ignored.")


_AGE = ResponseHeader(
    "Age",
    "A copy: the seconds since the last contact with its owner, 2147483648 if there was none since the start.",
    {"type": "integer", "minimum": 0, "maximum": 2**31},
    is_required=False,
)
CONSUL_HEADERS = (
    ResponseHeader("X-Consul-Index", "Rises with every change.", {"type": "integer", "minimum": 1}),
    ResponseHeader("X-Consul-KnownLeader", "Constant; Consul's clients expect it.", {"const": "true"}),
    ResponseHeader("X-Consul-LastContact", "Constant; Consul's clients expect it.", {"const": "0"}),
)
_DOCUMENT = (
    ResponseHeader("ETag", "Changes with the document."),
    ResponseHeader("Cache-Control", "Caches must revalidate.", {"const": "no-cache"}),
)
RETRY_AFTER = ResponseHeader("Retry-After", "Seconds to wait before a retry.", {"type": "integer", "minimum": 1})
_CAS = Parameter("cas", "Only if this is the entry's `ModifyIndex`.", _NUMBER)
_FLAGS = Parameter("flags", "A number that is stored with the value.", _NUMBER)
_RAW = Parameter("raw", "The value alone, whatever the parameter's value.")
_IGNORED = tuple(
    Parameter(name, "Ignored.") for name in ("dc", "ns", "partition", "index", "wait", "stale", "consistent")
)

_TOO_FAST = ResponseSpec(
    "A client on another machine creates IDs faster than `--create-rate` allows.", ErrorDocument, [RETRY_AFTER]
)
_UNKNOWN_ID = "The ID does not exist."
_OWNERLESS = "The ID is ownerless, and would have to seed a cluster: create a new one."
_FULL = "The ID has as many nodes as `--max-nodes` allows."
_BAD_NODE = "The body is not an object with an address, or one of its values is invalid."
_BAD_QUERY = "`cas` or `flags` is not an unsigned 64-bit number, or a parameter is not supported."
_BAD_BODY = "The body is invalid."
_NO_PEERS = "This daemon has no peers."
_UNDECIDED = (
    "The disk cannot be written; or the request could not be decided in time, or not without an unreachable peer, or"
    " not before a node that claimed to lead reports itself."
)
_NOT_PUT = (
    "Nothing was changed: the disk cannot be written (`store unavailable`), or the text says why the request could not"
    " be decided."
)
_NOT_NOW = "Not possible now; the text says why."
_DISK = "The disk cannot be written, or peers cannot agree now."

_DISCOVERY = (
    _at(
        "/",
        ("discovery", "/"),
        DiscoveryAPI,
        _get(
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
        _post(
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
    _at(
        "/<id:discovery_id>",
        ("discovery", "/ID"),
        DiscoveryAPI,
        _get(
            DiscoveryAPI.show,
            "show",
            "Show the registered nodes.",
            description="Also the leader, if there is one. A daemon that does not own the ID answers from a copy.",
            right="read",
            page=Pages.cluster,
            parameters=[
                _flag("consistent", "Forward to the owner instead of answering from a copy."),
                _flag("explain", "Explain the answer. Ignored unless an operator asks."),
            ],
            responses={
                200: ResponseSpec("The record.", (FullDocument, Explanation), [_AGE]),
                404: _UNKNOWN_ID,
                503: "The owner is unreachable, or this daemon does not know yet whether the ID exists.",
            },
        ),
        _post(
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
                404: _UNKNOWN_ID,
                409: f"{_FULL} Or a loopback address is listed or would be, and the nodes are not all on one machine.",
                410: _OWNERLESS,
                503: _UNDECIDED,
            },
        ),
        _put(
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
        _delete(
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
                404: _UNKNOWN_ID,
                503: _UNDECIDED,
            },
        ),
    ),
    _at(
        "/<id:discovery_id>/events",
        ("discovery", "/ID/events"),
        EventsAPI,
        _get(
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
                404: _UNKNOWN_ID,
                503: "Too many watchers, or this daemon does not know yet whether the ID exists.",
            },
        ),
    ),
)

_CONSUL_KV = (
    _at(
        "/v1/kv/<id:discovery_id>/leader",
        ("consul", "/v1/kv/KEY"),
        ConsulAPI,
        _get(
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
        _put(
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
                409: _FULL,
                410: _OWNERLESS,
                503: _NOT_PUT,
            },
        ),
        _delete(
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
    _at(
        "/v1/kv",
        ("consul", "other"),
        ConsulAPI,
        _get(ConsulAPI.refuse_empty_key, right="known"),
        _put(ConsulAPI.refuse_empty_key, right="known"),
        _delete(ConsulAPI.refuse_empty_key, right="known"),
    ),
    _at(
        "/v1/kv/<key:key>",
        ("consul", "/v1/kv/KEY"),
        ConsulAPI,
        _get(ConsulAPI.read_other, right="read"),
        _put(ConsulAPI.refuse_other, right="write"),
        _delete(ConsulAPI.refuse_other, right="write"),
    ),
)

_DAEMON = (
    _at(
        "/healthz",
        ("health", "/healthz"),
        HealthAPI,
        _get(
            HealthAPI.show_liveness,
            "isAlive",
            "Check that the process answers.",
            responses={200: ResponseSpec("It does.", Liveness)},
        ),
    ),
    _at(
        "/readyz",
        ("health", "/readyz"),
        HealthAPI,
        _get(
            HealthAPI.show_readiness,
            "isReady",
            "Check that lists can be served.",
            description="Only operators see what is wrong: where tokens are required, clients with the scope `admin`.",
            parameters=[_flag("grant", "Check also that records can be changed, and a node can be told to bootstrap.")],
            responses={200: ResponseSpec("Ready.", Readiness), 503: ResponseSpec("Not ready.", Readiness)},
        ),
    ),
    _at(
        "/openapi.json",
        ("documents", "/openapi.json"),
        OpenAPIDocument,
        _get(
            OpenAPIDocument.show,
            "getDocument",
            "This document: the operations of the listener that serves it.",
            parameters=[Parameter("If-None-Match", "The ETag of the cached document.", location="header")],
            responses={
                200: ResponseSpec(
                    "The document.", {"type": "object", "required": ["openapi", "info", "paths"]}, _DOCUMENT
                ),
                304: ResponseSpec("The cached document is current.", headers=_DOCUMENT),
            },
        ),
    ),
    _at(
        "/status",
        ("pages", "/status"),
        DiscoveryAPI,
        _get(
            DiscoveryAPI.refuse_page,
            "getStatus",
            "The state of the daemon, as a page for people.",
            right="admin",
            page=Pages.status,
            cost=PAGE_COST,
            responses={
                200: ResponseSpec("The page.", STRING, media_type=HTML),
                404: "The client does not prefer HTML.",
            },
        ),
    ),
    _at(
        "/clusters",
        ("pages", "/clusters"),
        DiscoveryAPI,
        _get(DiscoveryAPI.refuse_page, right="known", page=Pages.clusters, cost=PAGE_COST),
    ),
    _at("/help", ("pages", "/help"), DiscoveryAPI, _get(DiscoveryAPI.refuse_page, page=Pages.help)),
    _at("/help/api", ("pages", "/help/api"), DiscoveryAPI, _get(DiscoveryAPI.refuse_page, page=Pages.api)),
    _at(
        "/static/<path:name>",
        ("pages", "/static"),
        Pages,
        _get(Pages.file),
    ),
    _at(
        "/metrics",
        ("metrics", "/metrics"),
        MetricsAPI,
        _get(
            MetricsAPI.show,
            "getMetrics",
            "All metrics, in Prometheus' text format.",
            description="Also on `--metrics-listen`, where nothing else is served.",
            cost=PAGE_COST,
            responses={200: ResponseSpec("The metrics.", STRING, media_type=TEXT)},
        ),
        audiences=("operator",),
    ),
)

_operators = partial(_at, audiences=("guarded", "operator"))
_OPERATOR = (
    _operators(
        "/operator/clusters",
        ("operator", "/operator/clusters"),
        ClustersAPI,
        _get(
            ClustersAPI.list_clusters,
            "listClusters",
            "List the IDs, or those that match, page by page.",
            description=(
                "In the order of the IDs. A page ends early where many records do not match: go on until `next` is"
                " null."
            ),
            right="admin",
            cost=PAGE_COST,
            parameters=[
                Parameter(
                    "search",
                    "A part of the ID or of a node's address, in upper or lower case.",
                    {"type": "string", "maxLength": MAX_SEARCH},
                ),
                Parameter("health", "Only IDs of this health.", {"enum": list(Health)}),
                Parameter("after", "The `next` of the page before.", {"type": "string", "pattern": f"^$|{ID_PATTERN}"}),
                Parameter(
                    "limit",
                    f"How many IDs to return at most. {DEFAULT_CLUSTERS} by default.",
                    {"type": "integer", "minimum": 1, "maximum": MAX_CLUSTERS},
                ),
            ],
            responses={
                200: ResponseSpec("The IDs.", ClusterList),
                400: "A parameter is invalid; the text says which.",
                503: "etcd does not answer, or too many searches run at once.",
            },
        ),
    ),
    _operators(
        "/operator/export",
        ("operator", "/operator/export"),
        OperatorAPI,
        _get(
            OperatorAPI.export,
            "exportAll",
            "Export all IDs.",
            description="A document without its end could not be written completely.",
            right="admin",
            has_head=False,
            is_streamed=True,
            cost=_EXPORT_COST,
            responses={200: ResponseSpec("One JSON document with one record a line.", ExportDocument)},
        ),
    ),
    _operators(
        "/operator/backup",
        ("operator", "/operator/backup"),
        OperatorAPI,
        _get(
            OperatorAPI.back_up,
            "backUp",
            "Make a backup of this daemon.",
            description=(
                "It has everything that was acknowledged before the request. A document without its end could not be"
                " written completely."
            ),
            right="admin",
            has_head=False,
            is_streamed=True,
            cost=_EXPORT_COST,
            responses={
                200: ResponseSpec("One JSON document with one record a line.", BackupDocument),
                404: "The records are in etcd.",
                503: "No snapshot can be made, or another backup is being made.",
            },
        ),
    ),
    _operators(
        "/operator/import",
        ("operator", "/operator/import"),
        OperatorAPI,
        _post(
            OperatorAPI.import_,
            "importSome",
            "Import records of an export.",
            description=(
                "Existing IDs are never overwritten. With `adopt` this daemon becomes the owner of another daemon's"
                " IDs; otherwise nodes can join under such an ID, and none is told to bootstrap."
            ),
            right="admin",
            body="import",
            body_type=Batch,
            responses={200: ResponseSpec("The outcome.", ImportAnswer), 400: _BAD_BODY, 503: _DISK},
        ),
    ),
    _operators(
        "/operator/freeze",
        ("operator", "/operator/freeze"),
        OperatorAPI,
        _get(
            OperatorAPI.show_freeze,
            "showFreeze",
            "Show whether this daemon is frozen.",
            right="admin",
            has_head=False,
            responses={200: ResponseSpec("Its state.", FreezeAnswer)},
        ),
        _post(
            OperatorAPI.freeze,
            "freeze",
            "Stop all changes, durably.",
            description=(
                "Lookups, exports and event streams continue; every change is answered 503 with the reason. After the"
                " answer no node is told to bootstrap. Safe to repeat."
            ),
            runs_to_end=True,
            right="admin",
            body="max-body",
            body_type=FreezeRequest,
            responses={
                200: ResponseSpec("The daemon is frozen.", FreezeAnswer),
                400: _BAD_BODY,
                409: "It is frozen for another reason.",
                503: _DISK,
            },
        ),
    ),
    _operators(
        "/operator/thaw",
        ("operator", "/operator/thaw"),
        OperatorAPI,
        _post(
            OperatorAPI.thaw,
            "thaw",
            "Allow changes again.",
            runs_to_end=True,
            right="admin",
            responses={200: ResponseSpec("The daemon is not frozen.", FreezeAnswer), 503: _DISK},
        ),
    ),
    _operators(
        "/operator/peers",
        ("operator", "/operator/peers"),
        OperatorAPI,
        _get(
            OperatorAPI.show_peers,
            "showPeers",
            "Show this daemon and its peers.",
            right="admin",
            has_head=False,
            responses={200: ResponseSpec("All daemons and their state.", PeersAnswer), 404: _NO_PEERS},
        ),
    ),
    _operators(
        "/operator/peers/forget",
        ("operator", "/operator/peers/forget"),
        OperatorAPI,
        _get(
            OperatorAPI.preview_forget,
            "previewForgetPeer",
            "Show which peer would be forgotten, and how many IDs it owns; nothing changes.",
            right="admin",
            has_head=False,
            parameters=[Parameter("name", "The name of the peer, its incarnation, or 4 or more digits of that.")],
            responses={
                200: ResponseSpec("The peer and the number of its IDs.", ForgetPreviewAnswer),
                400: "`name` is missing.",
                404: _NO_PEERS,
                409: _NOT_NOW,
            },
        ),
        _post(
            OperatorAPI.forget,
            "forgetPeer",
            "Forget a peer that is lost for good; its IDs get a new owner.",
            runs_to_end=True,
            right="admin",
            body="max-body",
            body_type=ForgetRequest,
            responses={
                200: ResponseSpec("The peer is forgotten.", ForgetAnswer),
                400: _BAD_BODY,
                404: _NO_PEERS,
                409: _NOT_NOW,
                503: _DISK,
            },
        ),
    ),
    _operators(
        "/operator/drain",
        ("operator", "/operator/drain"),
        OperatorAPI,
        _post(
            OperatorAPI.drain,
            "drain",
            "Hand over this daemon's IDs to another peer.",
            runs_to_end=True,
            right="admin",
            body="max-body",
            body_type=DrainRequest,
            requires_body=False,
            responses={
                200: ResponseSpec("Another peer owns them.", DrainAnswer),
                400: _BAD_BODY,
                404: _NO_PEERS,
                409: _NOT_NOW,
                503: _DISK,
            },
        ),
    ),
)

ENDPOINTS: tuple[Endpoint, ...] = (*_DISCOVERY, *_CONSUL_KV, *_DAEMON, *_OPERATOR)
