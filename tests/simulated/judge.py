"""The invariants of every run, and what is excused because no daemon could know better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rqdisco.backends.gossip.core import decide, queries
from rqdisco.core import codec
from rqdisco.core.addresses import is_local
from rqdisco.core.directory import Removal
from rqdisco.core.records import Record, RegistrationOutcome, is_unused, with_grant_answered
from rqdisco.core.views import View
from tests.simulated.boots import Boot
from tests.simulated.clients import client_host
from tests.simulated.hosts import Host
from tests.simulated.nodes import Cluster, SimNode
from tests.simulated.unsaved import unsaved
from tests.support.linearizable import Undecided, check
from tests.support.one_list import Rules

if TYPE_CHECKING:
    from tests.simulated.world import AnyWorld

# Two daemons of one identity are discovered by the next exchanges with a peer.
_FENCED_SECONDS = 8.0
_MOST_STATES = 20_000
# Acknowledged nodes that only the owner knew may be gone; but nobody is granted, so no second
# cluster is excused (R7).
_LOST_OWNER = "disk"


class Judge:
    """Watches answers and actions. `residue` are the IDs of which only one disk knew something,
    with the reason.

    Of the IDs `in_doubt` the owner was lost while it granted a node: that node is not shown any
    more (P3). `acknowledged` are the addresses that must be listed in the end. Of the IDs `left` an
    operator removed some nodes and left others, that may wait for those; of the IDs `on_behalf`
    nodes were listed on the owner's behalf.
    """

    def __init__(self, world: AnyWorld) -> None:
        self._world = world
        self.clusters: list[Cluster] = []
        self.acknowledged: dict[str, set[str]] = {}
        # Until when an unanswered removal may still be carried out, and who registered before that.
        self._may_be_removed: dict[tuple[str, str], float] = {}
        self._unsure: dict[str, set[str]] = {}
        self.in_doubt: set[str] = set()
        self.left: set[str] = set()
        self.on_behalf: set[str] = set()
        self.residue: dict[str, str] = {}
        # False once a host was booted anew, or IDs got another owner.
        self.ages_are_known = True
        self._created: dict[str, tuple[str, float]] = {}
        self._used: set[str] = set()
        self._seen: dict[tuple[str, str, int], bytes] = {}
        # The ID that an owner changed under each of its versions.
        self._key_of: dict[tuple[str, int], str] = {}
        self._looked_at: dict[Boot, int] = {}
        self._copied: Host | None = None
        self._copied_at = 0.0
        self._was_copied = self._was_rolled_back = False

    def violate(self, text: str) -> None:
        self._world.trace.log(f"VIOLATION {text}")
        self._world.result.violations.append(f"{self._world.now:.3f} {text}")

    def excuse(self, why: str, text: str) -> None:
        self._world.trace.log(f"excused: {why}: {text}")
        self._world.result.excused.append(f"{why}: {text}")

    # Events.

    def is_owner(self, boot: Boot, key: str) -> bool:
        """Report whether a daemon decides about an ID."""
        record = boot.store.newest(key) if key else None
        return record is not None and boot.owns(record)

    def lists(self, boot: Boot, key: str, addr: str) -> bool:
        """Report whether a daemon lists an address, as it decided or as it shows it."""
        known = queries.newest(boot.state, key), queries.shown(boot.state, key)
        return any(node.addr == addr for record in known if record is not None for node in record.nodes)

    def answered(self, boot: Boot, key: str, what: str, outcome: Any, had_record: bool, asked: float) -> None:
        """A daemon sends an answer; when it was asked it had a record of the ID, or had none."""
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
        """An owner answers a request that another daemon forwarded. That daemon's copy may not say
        yet that a grant is in doubt.
        """
        if record is not None and _is_in_doubt_for_good(record):
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

    def node_answered(self, key: str, addr: str, registration: RegistrationOutcome) -> None:
        """A node received an answer."""
        node = self._world.nodes[key, addr]
        node.grant_reason = registration.bootstrap
        for each in registration.listed:
            if is_local(each.addr) and client_host(each.addr) != client_host(addr):
                self.violate(f"R5d {addr} is sent to {each.addr}, which is not on its machine")
        self.acknowledge(key, addr)
        if registration.bootstrap is not None:
            self._world.count("alone")

    def took_off(self, key: str, left: int) -> None:
        """An operator removed a node from the list, on which this many are left."""
        self.left.add(key) if left else self.left.discard(key)

    def acknowledge(self, key: str, addr: str) -> None:
        node = self._world.nodes[key, addr]
        self._used.add(key)
        if not node.is_removed:
            self.acknowledged.setdefault(key, set()).add(addr)
            is_sure = self._world.now > self._may_be_removed.get((key, addr), 0.0)
            unsure = self._unsure.setdefault(key, set())
            unsure.discard(addr) if is_sure else unsure.add(addr)

    def removal_unanswered(self, key: str, addr: str, until: float) -> None:
        """A removal got no answer; the request may be on its way to the owner until then (R2)."""
        self._may_be_removed[key, addr] = max(until, self._may_be_removed.get((key, addr), 0.0))

    def claimed(self, key: str) -> None:
        """A node won a claim: until it reports itself, a report by another drops it (R5c)."""
        self._used.add(key)

    def created(self, record: Record, asked: float) -> None:
        """A client has an ID, created after it was requested, and not certainly used."""
        self._created[record.id] = record.owner, asked

    def unknown(self, boot: Boot, key: str) -> None:
        """A daemon answers that an ID does not exist: never one of its own before its time is over
        (P7).
        """
        owner, at = self._created.get(key, ("", 0.0))
        # A copy of its owner lacks later IDs, and is not discovered at once.
        if owner == boot.owner and key not in self.residue and self._copied is None:
            age = self._world.now - at
            if self._world.unused_seconds is None or age < self._world.unused_seconds:
                self.violate(f"P7 {key} is unknown at its owner after {age:.1f} s")

    def bootstrapped(self, node: SimNode, cluster: Cluster) -> None:
        """A node bootstrapped a cluster (I1, I2)."""
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
            elif self.residue.get(node.discovery_id, _LOST_OWNER) != _LOST_OWNER:
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

    def loses(self, host: Host, why: str) -> None:
        """A disk is about to be lost, or to be restored: what no other disk has is gone by
        nature.
        """
        self._was_rolled_back |= why == "rollback"
        others = [each.known for each in self._world.hosts if each is not host and not each.is_drained]
        own = None if host.boot is None else host.boot.owner
        is_known = own is not None and any(each is not host and each.has_met(own) for each in self._world.hosts)
        for key, record in host.known.items():
            # If another disk has a newer state than that, it is what it was before.
            held = [other[key] for other in others if key in other]
            if not _holds(max(held, key=lambda each: (len(each.previous_owners), each.version), default=None), record):
                is_owner = record.owner == own
                # Where nobody has met the owner, its IDs may be anybody's.
                self._is_gone(
                    key, why if why != "disk" else "witness" if not is_owner else "disk" if is_known else "name"
                )
        for key in host.hinted:
            self._is_gone(key, "hint")
        if why == "rollback" and host.is_drained:
            # Until it reaches another daemon it stores hints that nobody will take from it.
            for key in host.known:
                self._is_gone(key, why)

    def is_copied(self, host: Host) -> None:
        """Two of one identity run: until they are discovered, both decide."""
        self._copied, self._copied_at = host, self._world.now
        self._was_copied = self._was_rolled_back = True
        for key in host.known:
            self._is_gone(key, "copy")

    def clash(self, key: str) -> None:
        """A daemon found that two have different content for one ID."""
        if not self._was_rolled_back:
            self.violate(f"R2 two owners have different content of {key}")

    def copy_is_gone(self) -> None:
        # What only one of the two knew is gone, or is not checked.
        for host in self._world.hosts:
            for key in host.known:
                self._is_gone(key, "copy")
        self._copied = None

    def _is_gone(self, key: str, why: str) -> None:
        if why == _LOST_OWNER and _is_named(key):
            # Perhaps nobody knows that there was such an ID.
            why = "name"
        if self.residue.get(key, _LOST_OWNER) == _LOST_OWNER:
            self.residue[key] = why

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

    def _runs(self, cluster: Cluster) -> bool:
        return any(
            node.cluster is cluster and not node.is_removed and not node.is_replaced
            for node in self._world.nodes.values()
            if node.discovery_id == cluster.discovery_id
        )

    # Inspections.

    def look(self) -> None:
        """I7: no version is issued twice, with different content or for different IDs."""
        for host in self._world.hosts:
            boot = host.boot
            if boot is None or self._looked_at.get(boot) == boot.settled_count:
                continue
            self._looked_at[boot] = boot.settled_count
            for key in boot.store.ids():
                rest = boot.store.rest(key.encode()) or b""
                version = codec.peek_version(rest)
                told = codec.peek_owner(rest), key, version
                if self._seen.setdefault(told, rest) != rest:
                    self._seen[told] = rest
                    self._issued_twice(f"I7 {key} version {version} says two things")
                other = self._key_of.setdefault((told[0], version), key)
                if other != key:
                    self._key_of[told[0], version] = key
                    self._issued_twice(f"I7 version {version} is of {other} and of {key}")

    def _issued_twice(self, text: str) -> None:
        self.excuse("versions", text) if self._was_rolled_back else self.violate(text)

    def judge(self) -> None:
        """Check what must hold once all faults have been over for long."""
        for host in self._world.hosts:
            if host.boot is not None and (leftovers := host.boot.leftovers):
                self.violate(f"I10 {host.name} keeps {', '.join(leftovers)} of what is over")
            elif host.boot is not None:
                for difference in unsaved(host.boot.state, host.disk.records, host.disk.metadata):
                    self.violate(f"I11 {host.name} has what its next start would not find: {difference}")
        views = [(host.name, host.boot.records()) for host in self._world.hosts if host.boot and host.takes_part]
        if not views:
            return
        name, first = views[0]
        for other, view in views[1:]:
            for key in sorted(first.keys() | view.keys()):
                if first.get(key) != view.get(key):
                    text = f"I5 {name} and {other} differ over {key}: {first.get(key)} / {view.get(key)}"
                    # The original lacks what its copy did, and that is not checked.
                    self.excuse("copy", text) if self._was_copied else self.violate(text)
        for key, addresses in self.acknowledged.items():
            if not self._is_expired(key, first.get(key)):
                self._judge_list(key, addresses, first.get(key))
        self._judge_unused()
        self._judge_owners(next(host.boot for host in self._world.hosts if host.boot and host.takes_part))
        for key in sorted({key for key, _ in self._world.nodes}):
            if not self._is_expired(key, first.get(key)):
                self._judge_cluster(key, first.get(key))
            self._judge_history(key, first.get(key))

    def _judge_list(self, key: str, addresses: set[str], record: Record | None) -> None:
        """I4: acknowledged registrations are there."""
        lost = addresses - (set() if record is None else {node.addr for node in record.nodes})
        if lost or (record is None and not _is_named(key)):
            text = f"I4 {key} lost {sorted(lost)}"
            why = self.residue.get(key)
            if why is None and record is not None and lost <= self._unsure.get(key, set()):
                why = "removal"
            self.violate(text) if why is None else self.excuse(why, text)

    def _is_expired(self, key: str, record: Record | None) -> bool:
        """Report whether an ID is gone in the way an unused one may be."""
        is_expired = record is None and self._world.unused_seconds is not None and key not in self._used
        if is_expired and not _is_named(key):
            self._world.count("expired")
            return True
        return False

    def _judge_unused(self) -> None:
        """P7: an owner that may decide forgets what nobody used for this long."""
        for host in self._world.hosts if self._world.unused_seconds is not None else ():
            if host.boot is None or not decide.may_expire(host.boot.state):
                continue
            for record in host.boot.records().values():
                if record.owner == host.boot.owner and is_unused(record):
                    self.violate(f"P7 {record.id} is not forgotten at {host.name}")

    def _judge_owners(self, boot: Boot) -> None:
        """R7: somebody decides about each ID; daemons are not drained to each other."""
        for key, record in boot.records().items():
            owner = boot.state.members.get(queries.owner(boot.state, record))
            if key not in self.residue and (owner is None or owner.state in ("drained", "forgotten")):
                self.violate(f"R7 {key} has no owner that is a member")

    def _judge_cluster(self, key: str, record: Record | None) -> None:
        """I3: nobody waits for ever."""
        nodes = [node for (each, _), node in self._world.nodes.items() if each == key]
        waiting = [node for node in nodes if node.is_up and node.cluster is None and not node.has_wrong_address]
        if not waiting:
            self._world.count("formed")
            return
        text = f"I3 {[(node.addr, node.last) for node in waiting]} wait for ever"
        why = self._why_they_wait(key, record, nodes)
        self.violate(text) if why is None else self.excuse(why, text)

    def _why_they_wait(self, key: str, record: Record | None, nodes: list[SimNode]) -> str | None:
        """Return the reason that no daemon can do anything about."""
        if key in self.residue:
            return self.residue[key]
        if record is None or record.ownerless:
            return "ownerless"
        seed = record.leader or record.grant
        if seed is None:
            return "promised" if key in self.left or key in self.on_behalf else None
        node = next((each for each in nodes if each.addr == seed.addr), None)
        return None if node is None else self._why_it_made_none(node, record)

    def _why_it_made_none(self, node: SimNode, record: Record) -> str | None:
        """Return why the granted node has no cluster."""
        if node.was_member:
            # It was in a cluster, and lost it for good; only the leader reports a leader key.
            return "seed" if node.wiped is not None or node.is_replaced or record.leader is not None else None
        if node.won_in_vain:
            return "thrown"
        if record.unreported is not None:
            # The claimant wins again whenever it asks; only an operator knows that it never will
            # (R5c).
            return "claim" if node.is_replaced or not node.is_up else None
        return "answer" if node.may_be_granted and not node.is_removed else None

    def _judge_history(self, key: str, record: Record | None) -> None:
        """P1, R9: one order of decisions explains all answers."""
        past = self._world.clients.histories.get(key)
        # An answer may have come before the record that is in doubt, and none after it.
        if past is None or key in self.residue or key in self.in_doubt or _is_in_doubt_for_good(record):
            return
        rules = Rules(window=self._world.window, ages_known=self.ages_are_known)
        try:
            verdict = check(past.operations, rules, limit=_MOST_STATES)
        except Undecided:
            self._world.count("undecided")
            return
        self._world.count("explained")
        if not verdict:
            self.violate(f"I9 {key}: {verdict.text}")


def _is_in_doubt_for_good(record: Record | None) -> bool:
    """Report whether nobody will ever know if a node was granted, because the owner was lost; it is
    not shown (P3).
    """
    return record is not None and record.ownerless and record.grant is not None and record.grant.pending


def _is_named(key: str) -> bool:
    """Report whether nobody created an ID: it comes to be by a claim."""
    return key.startswith("rqlite")


def _holds(known: Record | None, record: Record) -> bool:
    """Report whether another disk has the content of this one, or later content."""
    if known is None:
        return False
    if record.owner in known.previous_owners or (known.owner == record.owner and known.version >= record.version):
        return True
    return (
        known.nodes == record.nodes
        and known.was_emptied == record.was_emptied
        and _decision(known) == _decision(record)
    )


def _decision(record: Record) -> tuple[object, str | None, bool]:
    """Return the grant with its address, the leader, and whether that is hidden: an older, revoked
    grant does not count.
    """
    grant = with_grant_answered(record).grant
    is_hidden = record.unreported is not None
    granted = None if grant is None else (grant.addr, grant.at)
    return granted, None if record.leader is None else record.leader.value, is_hidden
