"""The rules that every answer of a daemon keeps, and every node that acts on one."""

from __future__ import annotations

from typing import Any

from rqdisco.backends.gossip.core import queries
from rqdisco.core.addresses import is_local
from rqdisco.core.directory import Removal
from rqdisco.core.records import Record, RegistrationOutcome
from rqdisco.core.views import View
from tests.simulated.boots import Boot
from tests.simulated.clients import client_host
from tests.simulated.ledger import LOST_OWNER, Ledger
from tests.simulated.nodes import Cluster, SimNode

# Two daemons of one identity are discovered by the next exchanges with a peer.
_FENCED_SECONDS = 8.0


class AnswerJudge(Ledger):
    """The judge of answers as they are given, and of nodes that bootstrap."""

    def is_owner(self, boot: Boot, key: str) -> bool:
        """Report whether a daemon decides about an ID."""
        record = boot.store.newest(key) if key else None
        return record is not None and boot.owns(record)

    def lists(self, boot: Boot, key: str, addr: str) -> bool:
        """Report whether a daemon lists an address, as it decided or as it shows it."""
        known = queries.newest(boot.state, key), queries.shown(boot.state, key)
        return any(node.addr == addr for record in known if record is not None for node in record.nodes)

    def answered(self, boot: Boot, key: str, what: str, outcome: Any, had_record: bool, asked: float) -> None:
        """Judge an answer of a daemon; `had_record` tells whether it had a record of the ID when asked."""
        world = self._world
        if getattr(outcome, "on_behalf", False):
            world.count("elsewhere")
            self.on_behalf.add(key)
            addr = what.partition(" ")[2]
            boot.listed_on_behalf(key, addr, outcome.record.version)
            if (key, addr) in boot.refused:
                self.violate(f"R4 {what}: listed at {boot.host.name} though the owner refused")
        if isinstance(outcome, View):
            self._check_view(boot, key, what, outcome, is_from_copy=had_record and what != "read")
        self._check_hints(boot, key, what, outcome, asked)
        if self._is_in_doubt_at(boot, key):
            self.in_doubt.add(key)
        if getattr(outcome, "bootstrap", None) == "granted" or getattr(outcome, "won", False):
            self._check_fence(boot, outcome.record, what)
            world.faults.after_a_grant(outcome.record.owner)

    def owner_answered(self, record: Record | None) -> None:
        """Record an owner's answer to a request that another daemon forwarded, whose copy may not say
        yet that a grant is in doubt.
        """
        if record is not None and is_in_doubt_for_good(record):
            self.in_doubt.add(record.id)

    def _is_in_doubt_at(self, boot: Boot, key: str) -> bool:
        """Report whether a daemon answers about a grant that is in doubt for good. A successor that has
        just forgotten the owner answers so before it stored the record as its own.
        """
        record = boot.store.settled(key)
        if record is None or record.grant is None or not record.grant.pending:
            return False
        return record.ownerless or (boot.owns(record) and not queries.has_owner(boot.state, record))

    def _check_view(self, boot: Boot, key: str, what: str, view: View, *, is_from_copy: bool) -> None:
        """R5c, R6: nobody is sent to a node whose claim was not reported, or whose grant was not
        answered.

        What a daemon answers from its copy must agree with that copy. For an ID that it did not
        have, and for a read, it asked the owner, which knows earlier that a grant is answered: then
        the grant must be over there.
        """
        shown = {node.addr for node in view.nodes} | ({view.leader.addr} if view.leader else set())
        granting = self._granting(key, view.version)
        if granting in shown:
            text = f"R6 {what}: {boot.host.name} shows {granting}, which its owner has not answered"
            # A copy of the owner finds the grant on its disk, as a restart would after the answer.
            is_copy = self._copied is not None and boot.owner == view.owner and key not in boot.state.pending_grants
            self.excuse("copy", text) if is_copy else self.violate(text)
        record = boot.store.settled(key)
        if record is None or record.version != view.version or not is_from_copy:
            return
        if record.unreported is not None and record.leader is not None and record.leader.addr in shown:
            self.violate(f"R5c {what}: {boot.host.name} shows {record.leader.addr}, which did not report itself")
        grant, hinted = record.grant, {node.addr for node in boot.state.hints.nodes(key)}
        # A node that was answered on the owner's behalf since then was sent to others.
        if grant is not None and grant.pending and record.owner != boot.owner and grant.addr in shown - hinted:
            self.violate(f"R6 {what}: {boot.host.name} shows {grant.addr}, whose grant was not answered")

    def _granting(self, key: str, version: int) -> str | None:
        """Return the address that some daemon is granting in this version of an ID, and has not
        answered yet.
        """
        for host in self._world.hosts:
            pending = None if host.boot is None else host.boot.state.pending_grants.get(key)
            if pending is not None and pending.outcome is not None and pending.outcome.record.version == version:
                return str(pending.outcome.record.grant.addr)
        return None

    def _check_hints(self, boot: Boot, key: str, what: str, outcome: Any, asked: float) -> None:
        """R8: an owner that may decide leaves out no node that it answered itself before it was
        ready.

        It may have decided before it stopped being ready, answered that node, and answer only now.
        Then it was asked before, and that node was sent to what this answer shows, or to later nodes.
        """
        if not isinstance(outcome, (View, RegistrationOutcome, Removal)) or not self.is_owner(boot, key):
            return
        if getattr(outcome, "bootstrap", None) == "again":
            return
        record = outcome if isinstance(outcome, View) else outcome.record
        listed = outcome.listed if isinstance(outcome, RegistrationOutcome) else record.nodes
        addresses = {node.addr for node in listed}
        missing = []
        for each in boot.hints_of_its_own(key):
            at, version = boot.hinted.get(each.number, (0.0, 0))
            if each.node.addr not in addresses and (asked >= at or record.version > version):
                missing.append(each.node.addr)
        if missing:
            self.violate(f"R8 {what}: {boot.host.name} leaves out {sorted(missing)}")

    def _check_fence(self, boot: Boot, record: Record, what: str) -> None:
        """No daemon decides for long beside a copy of itself (R8), where a third one, a member for
        both, reaches both.
        """
        world = self._world
        if self._copied is None or self._copied.boot is None or record.owner != self._copied.boot.owner:
            return
        # The owner may have decided seconds before its answer arrived at this daemon.
        decided = world.now if record.grant is None else min(world.now, record.grant.at / 1000)
        since = decided - _FENCED_SECONDS
        boots = [host.boot for host in world.hosts if host.boot is not None]
        up = [boot for boot in boots if boot.was_awake_since(since) and boot.began < since]
        duplicates = [boot for boot in up if boot.owner == record.owner]
        # Nobody asks a daemon that was drained.
        has_third = any(all(boot.owner in each.state.members.other_incarnations for each in duplicates) for boot in up)
        are_noticed = world.net.was_calm_since(since) and len(duplicates) == 2 and has_third
        # A daemon started just now cannot be known as a duplicate yet.
        if are_noticed and self._copied_at < since:
            self.violate(f"R8 {what}: granted beside a copy")

    def node_answered(self, key: str, addr: str, registration: RegistrationOutcome) -> None:
        """Judge the answer that a node received (R5d)."""
        node = self._world.nodes[key, addr]
        node.grant_reason = registration.bootstrap
        for each in registration.listed:
            if is_local(each.addr) and client_host(each.addr) != client_host(addr):
                self.violate(f"R5d {addr} is sent to {each.addr}, which is not on its machine")
        self.acknowledge(key, addr)
        if registration.bootstrap is not None:
            self._world.count("alone")

    def answered_unknown(self, boot: Boot, key: str) -> None:
        """Judge the answer that an ID does not exist. Its owner must not give it before the ID may expire
        (P7).
        """
        owner, at = self._created.get(key, ("", 0.0))
        # A copy of its owner lacks later IDs, and is not discovered at once.
        if owner == boot.owner and key not in self.residue and self._copied is None:
            age = self._world.now - at
            if self._world.unused_seconds is None or age < self._world.unused_seconds:
                self.violate(f"P7 {key} is unknown at its owner after {age:.1f} s")

    def bootstrapped(self, node: SimNode, cluster: Cluster) -> None:
        """Judge that a node bootstrapped a cluster (I1, I2)."""
        self._world.count("bootstrapped")
        for each in self.clusters:
            if each.discovery_id != node.discovery_id or not self._runs(each):
                continue
            text = f"I1 two clusters of {node.discovery_id}: {sorted(each.members)} and {node.addr}"
            if node.grant_reason == "again" and each.seed == node.addr:
                # A lost answer and a lost disk look the same to the server.
                self.excuse("window", text)
            elif self._copied is not None:
                # Until they are discovered both decide, even about later IDs.
                self.excuse("copy", text)
            elif self.residue.get(node.discovery_id, LOST_OWNER) != LOST_OWNER:
                self.excuse(self.residue[node.discovery_id], text)
            elif self._may_have_been_removed(node.discovery_id, {*each.members} - {node.addr}):
                # All others registered before a removal that got no answer was over (R2).
                self.excuse("removal", text)
            else:
                self.violate(text)
        self.clusters.append(cluster)

    def _may_have_been_removed(self, key: str, members: set[str]) -> bool:
        acknowledged = self.acknowledged.get(key, set()) & members
        return bool(acknowledged) and acknowledged <= self._unsure.get(key, set())

    def _runs(self, cluster: Cluster) -> bool:
        return any(
            node.cluster is cluster and not node.is_removed and not node.is_replaced
            for node in self._world.nodes.values()
            if node.discovery_id == cluster.discovery_id
        )


def is_in_doubt_for_good(record: Record | None) -> bool:
    """Report whether nobody will ever know if a node was granted, because the owner was lost; it is
    not shown (P3).
    """
    return record is not None and record.ownerless and record.grant is not None and record.grant.pending
