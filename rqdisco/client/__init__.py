"""An asynchronous client library for rqdisco, on Twisted.

client = connect(reactor, "http://127.0.0.1:4000")
document = await client.register(discovery_id, "10.0.0.1:4001")
"""

from rqdisco.client.api import MAX_IMPORT, DiscoveryClient
from rqdisco.client.connect import connect
from rqdisco.client.documents import (
    AddressProblem,
    ClaimInfo,
    ClusterHealth,
    ClustersDocument,
    ClusterSummary,
    Document,
    ExportedDecisions,
    ExportedGrant,
    ExportedLeader,
    ExportedNode,
    ExportedRecord,
    ImportResult,
    LeaderInfo,
    LeaderRecord,
    LeaderValue,
    NodeRegistration,
    RefusedRecord,
    ServiceInfo,
)
from rqdisco.client.errors import ClientError, NotWatchable, Refused, Unavailable, Unreachable
from rqdisco.client.exports import DamagedExport, ExportReader
from rqdisco.client.peers import Drained, ForgetPreview, Forgotten, FreezeState, PeersDocument, PeerState

__all__ = [
    "MAX_IMPORT",
    "AddressProblem",
    "ClaimInfo",
    "ClientError",
    "ClusterHealth",
    "ClusterSummary",
    "ClustersDocument",
    "DamagedExport",
    "DiscoveryClient",
    "Document",
    "Drained",
    "ExportReader",
    "ExportedDecisions",
    "ExportedGrant",
    "ExportedLeader",
    "ExportedNode",
    "ExportedRecord",
    "ForgetPreview",
    "Forgotten",
    "FreezeState",
    "ImportResult",
    "LeaderInfo",
    "LeaderRecord",
    "LeaderValue",
    "NodeRegistration",
    "NotWatchable",
    "PeerState",
    "PeersDocument",
    "Refused",
    "RefusedRecord",
    "ServiceInfo",
    "Unavailable",
    "Unreachable",
    "connect",
]
