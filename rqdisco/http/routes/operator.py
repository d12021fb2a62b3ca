"""The routes of the operator's API."""

from __future__ import annotations

from functools import partial

from rqdisco.core.exports import Batch
from rqdisco.core.verdicts import Health
from rqdisco.http.api.admin import OperatorAPI
from rqdisco.http.api.cluster_search import DEFAULT_CLUSTERS, MAX_CLUSTERS, ClusterList
from rqdisco.http.api.clusters import MAX_SEARCH, ClustersAPI
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
from rqdisco.http.openapi.bodies import BackupDocument, ExportDocument
from rqdisco.http.operations import (
    ID_PATTERN,
    Endpoint,
    Parameter,
    ResponseSpec,
)
from rqdisco.http.routes.parts import EXPORT_COST, PAGE_COST, endpoint, get, post

_BAD_BODY = "The body is invalid."
_NO_PEERS = "This daemon has no peers."
_NOT_NOW = "Not possible now; the text says why."
_DISK = "The disk cannot be written, or peers cannot agree now."

_operators = partial(endpoint, audiences=("guarded", "operator"))
OPERATOR: tuple[Endpoint, ...] = (
    _operators(
        "/operator/clusters",
        ("operator", "/operator/clusters"),
        ClustersAPI,
        get(
            ClustersAPI.list_clusters,
            "listClusters",
            "List the IDs, or those that match, page by page.",
            description=(
                "In the order of the IDs. A page ends early where many records do not match: continue until `next` is"
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
        get(
            OperatorAPI.export,
            "exportAll",
            "Export all IDs.",
            description="A document without its end could not be written completely.",
            right="admin",
            has_head=False,
            is_streamed=True,
            cost=EXPORT_COST,
            responses={200: ResponseSpec("One JSON document with one record a line.", ExportDocument)},
        ),
    ),
    _operators(
        "/operator/backup",
        ("operator", "/operator/backup"),
        OperatorAPI,
        get(
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
            cost=EXPORT_COST,
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
        post(
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
        get(
            OperatorAPI.show_freeze,
            "showFreeze",
            "Show whether this daemon is frozen.",
            right="admin",
            has_head=False,
            responses={200: ResponseSpec("Its state.", FreezeAnswer)},
        ),
        post(
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
        post(
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
        get(
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
        get(
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
        post(
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
        post(
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
