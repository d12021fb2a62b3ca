"""A client library for rqdisco, asynchronous over Twisted.

client = connect(reactor, "http://127.0.0.1:4000")
document = await client.register(discovery_id, "10.0.0.1:4001")
"""

from rqdisco.client.api import MAX_IMPORT, DiscoveryClient
from rqdisco.client.connect import connect
from rqdisco.client.documents import (
    Document,
    ExportedLeader,
    ExportedNode,
    ExportedRecord,
    ImportResult,
    Leader,
    LeaderRecord,
    LeaderValue,
    RefusedRecord,
    Registration,
    ServiceInfo,
)
from rqdisco.client.errors import ClientError, Refused, Unavailable, Unreachable
from rqdisco.client.exports import DamagedExport, ExportReader

__all__ = [
    "MAX_IMPORT",
    "ClientError",
    "DamagedExport",
    "DiscoveryClient",
    "Document",
    "ExportReader",
    "ExportedLeader",
    "ExportedNode",
    "ExportedRecord",
    "ImportResult",
    "Leader",
    "LeaderRecord",
    "LeaderValue",
    "Refused",
    "RefusedRecord",
    "Registration",
    "ServiceInfo",
    "Unavailable",
    "Unreachable",
    "connect",
]
