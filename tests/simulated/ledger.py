"""The ledger of a run: promises of the daemons, and losses that explain why one is not kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rqdisco.core.records import Record, with_grant_answered
from tests.simulated.hosts import Host
from tests.simulated.nodes import Cluster

if TYPE_CHECKING:
    from tests.simulated.world import AnyWorld

# Acknowledged nodes that only the owner knew may be gone; but nobody is granted, so no second
# cluster is excused (R7).
LOST_OWNER = "disk"


class Ledger:
    """The account of promises and losses.

    - `acknowledged`: by ID, the addresses that must be listed in the end
    - `residue`: the IDs of which only one disk knew something, and why that is gone
    - `in_doubt`: the IDs whose owner was lost while it granted a node, which is not shown any more (P3)
    - `left`: the IDs of which an operator removed some nodes; the others may wait for those
    - `on_behalf`: the IDs under which nodes were listed on the owner's behalf
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
        self._copied: Host | None = None
        self._copied_at = 0.0
        self._was_copied = self._was_rolled_back = False

    def violate(self, text: str) -> None:
        self._world.trace.log(f"VIOLATION {text}")
        self._world.result.violations.append(f"{self._world.now:.3f} {text}")

    def excuse(self, why: str, text: str) -> None:
        self._world.trace.log(f"excused: {why}: {text}")
        self._world.result.excused.append(f"{why}: {text}")

    def node_removed(self, key: str, left: int) -> None:
        """Record that an operator removed a node from a list, and how many are left on it."""
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
        """Record that a removal got no answer. It may be on its way to the owner until then (R2)."""
        self._may_be_removed[key, addr] = max(until, self._may_be_removed.get((key, addr), 0.0))

    def claimed(self, key: str) -> None:
        """Record that a node won a claim. Until it reports itself, a report by another drops it (R5c)."""
        self._used.add(key)

    def created(self, record: Record, asked: float) -> None:
        """Record that a client got a new ID, which it asked for at this time and may not use."""
        self._created[record.id] = record.owner, asked

    def disk_lost(self, host: Host, why: str) -> None:
        """Write off what only this disk has, which is about to be lost or replaced by an older copy."""
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
                self._write_off(
                    key, why if why != "disk" else "witness" if not is_owner else "disk" if is_known else "name"
                )
        for key in host.hinted:
            self._write_off(key, "hint")
        if why == "rollback" and host.is_drained:
            # Until it reaches another daemon it stores hints that nobody will take from it.
            for key in host.known:
                self._write_off(key, why)

    def disk_copied(self, host: Host) -> None:
        """Record that two daemons of one identity run: both decide until that is noticed."""
        self._copied, self._copied_at = host, self._world.now
        self._was_copied = self._was_rolled_back = True
        for key in host.known:
            self._write_off(key, "copy")

    def owners_clashed(self, key: str) -> None:
        """Record that a daemon found two owners with different content for one ID."""
        if not self._was_rolled_back:
            self.violate(f"R2 two owners have different content of {key}")

    def copy_ended(self) -> None:
        # What only one of the two knew is gone, or is not checked.
        for host in self._world.hosts:
            for key in host.known:
                self._write_off(key, "copy")
        self._copied = None

    def _write_off(self, key: str, why: str) -> None:
        if why == LOST_OWNER and is_named(key):
            # Perhaps nobody knows that there was such an ID.
            why = "name"
        if self.residue.get(key, LOST_OWNER) == LOST_OWNER:
            self.residue[key] = why


def is_named(key: str) -> bool:
    """Report whether an ID is a name, which a claim creates."""
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
