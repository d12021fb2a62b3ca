"""The parameters that `Exchange` and `OwnRecovery` share: where this daemon holds its replica."""

from __future__ import annotations

import msgspec

from rqdisco.backends.gossip.membership.decision_guard import DecisionGuard
from rqdisco.backends.gossip.membership.members import Members
from rqdisco.backends.gossip.replication.cursors import Replication
from rqdisco.backends.single.directory import SingleDirectory
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.storage.wal.writer import Journal


class ReplicaParts(msgspec.Struct, frozen=True, kw_only=True):
    """The objects that hold this daemon's replica of all records, and decide about it."""

    members: Members
    replication: Replication
    guard: DecisionGuard
    journal: Journal
    local: SingleDirectory
    watermarks: ExpiryWatermarks
