"""The invariants of runs of stateless daemons over one etcd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rqdisco.core.directory import Removal
from rqdisco.core.records import ClaimOutcome, Node, RegistrationOutcome
from rqdisco.core.views import View
from tests.simulated.etcd.hosts import EtcdBoot
from tests.simulated.judge import Judge
from tests.simulated.nodes import Cluster, SimNode
from tests.support.linearizable import Undecided, check
from tests.support.one_list import Rules

if TYPE_CHECKING:
    from tests.simulated.etcd.world import EtcdWorld

_MOST_STATES = 20_000
_ANSWERS_WITHIN = 3.0


class EtcdJudge(Judge):
    """`residue` are the IDs that a restored backup changed.

    Of the IDs `forgotten` the restored store knows nothing, or a restore was not announced to the
    daemons: then a second cluster is excused. Of the IDs `hurried` a node was removed while it ran
    or started.
    """

    _world: EtcdWorld

    def __init__(self, world: EtcdWorld) -> None:
        super().__init__(world)
        self.forgotten: dict[str, str] = {}
        self.hurried: set[str] = set()
        self.imported: set[str] = set()
        # What operators remove, until it is done.
        self.to_remove: list[tuple[str, str]] = []
        # Removals that are not answered yet.
        self._removals: dict[tuple[str, str], int] = {}
        # What several of them overlapped about.
        self._overlapped: set[tuple[str, str]] = set()

    def is_owner(self, boot: Any, key: str) -> bool:
        return False

    # Events.

    def sent(self, boot: EtcdBoot, key: str, what: str, outcome: Any, asked: float) -> None:
        """A daemon sends an answer to a request of this time."""
        if isinstance(outcome, View) and not key:
            return
        is_grant = isinstance(outcome, RegistrationOutcome) and outcome.bootstrap is not None
        is_claim = isinstance(outcome, ClaimOutcome) and outcome.won
        if is_grant or is_claim:
            self._check_grant(boot, key, what, outcome, asked)
            self._world.faults.after_a_grant(boot.host.name)

    def _check_grant(
        self, boot: EtcdBoot, key: str, what: str, outcome: RegistrationOutcome | ClaimOutcome, asked: float
    ) -> None:
        store, addr = self._world.store, what.partition(" ")[2]
        record = store.record(key)
        if boot.went_back:
            self.violate(f"E8 {what}: granted after etcd went back")
        if key in self.forgotten:
            return
        if store.registered.get((key, addr), -1.0) < asked:
            self.violate(f"E1 {what}: told to bootstrap without a write of its own")
        if record is None or addr not in {node.addr for node in record.nodes}:
            # The leader of a cluster that exists drops the claims of others (R5c).
            if isinstance(outcome, RegistrationOutcome):
                self.violate(f"E3 {what}: told to bootstrap after it was removed")
            return
        if isinstance(outcome, RegistrationOutcome) and outcome.bootstrap == "again":
            granting = getattr(outcome.record, "grant_nonce", "")
            if not store.was_open(key, granting, asked) and not self._world.store.was_unheard(key, asked):
                self.violate(f"E4 {what}: repeated outside of its window")

    def removal_begins(self, key: str, addr: str) -> None:
        """An operator asks for a removal."""
        node = self._world.nodes.get((key, addr))
        if self._removals.get((key, addr), 0) > 0:
            self._overlapped.add((key, addr))
        self._removals[key, addr] = self._removals.get((key, addr), 0) + 1
        if node is not None and not node.is_removed:
            self._hurries(key, addr)

    def removal_ends(self, key: str, addr: str, removal: Removal, first: str | None) -> None:
        """A removal was answered, whose daemon read the registration `first` at first (E5)."""
        is_only = (key, addr) not in self._overlapped
        self.removal_is_over(key, addr)
        past = self._world.store.registrations.get((key, addr), [])
        if removal.removed and first in past and is_only:
            # A grant that was revoked leaves the registration from before it.
            after = past[len(past) - past[::-1].index(first) :]
            if after and after[0] is not None and None in after:
                self.violate(f"E5 {addr} was removed after it had registered anew")
        self.node_removed(key, len(removal.record.nodes))

    def removal_unanswered(self, key: str, addr: str, until: float) -> None:
        super().removal_unanswered(key, addr, until)
        self._world.timeline.callLater(until - self._world.now, self.removal_is_over, key, addr)

    def removal_is_over(self, key: str, addr: str) -> None:
        self._removals[key, addr] -= 1
        if self._removals[key, addr] == 0:
            self._overlapped.discard((key, addr))

    def starts(self, key: str, addr: str) -> None:
        """A node starts; removals of it may be under way."""
        if self._removals.get((key, addr), 0) > 0:
            self._hurries(key, addr)

    def _hurries(self, key: str, addr: str) -> None:
        self.hurried.add(key)
        self._unsure.setdefault(key, set()).add(addr)

    def acknowledge(self, key: str, addr: str) -> None:
        super().acknowledge(key, addr)
        if key in self.hurried:
            self._unsure[key].add(addr)

    def answered_unknown(self, boot: Any, key: str) -> None:
        if key in self.acknowledged and not key.startswith("rqlite") and key not in self.residue:
            self.violate(f"P7 {key} is unknown at {boot.host.name}")

    def restored(self, changed: list[str], *, is_announced: bool) -> None:
        """A backup was put back; the operator stopped the daemons before that if `is_announced`."""
        why = "restored" if is_announced else "unannounced"
        known = self._world.store.values()
        for key in changed:
            self.residue.setdefault(key, why)
        for key in dict.fromkeys([*(key for key, _ in self._world.nodes), *changed]):
            # A name that the backup does not have is a new one.
            if not is_announced or (key.startswith("rqlite") and key not in known):
                self.forgotten.setdefault(key, why)
                self.residue.setdefault(key, why)

    def bootstrapped(self, node: SimNode, cluster: Cluster) -> None:
        """A node bootstrapped a cluster (I1, I2)."""
        key = node.discovery_id
        self._world.count("bootstrapped")
        for each in self.clusters:
            if each.discovery_id != key or not self._runs(each):
                continue
            text = f"I1 two clusters of {key}: {sorted(each.members)} and {node.addr}"
            if node.grant_reason == "again" and each.seed == node.addr:
                # A lost answer and a lost disk look the same to the server.
                self.excuse("window", text)
            elif key in self.forgotten:
                self.excuse(self.forgotten[key], text)
            elif key in self.hurried:
                self.excuse("hurried", text)
            else:
                self.violate(text)
        self.clusters.append(cluster)

    # Inspections.

    def look(self) -> None:
        pass

    def judge(self) -> None:
        """Check what must hold once all faults have been over for long."""
        self._judge_daemons()
        for key, addr in self.to_remove:
            if key not in self.residue:
                self.violate(f"I3 {addr} cannot be removed from {key}")
        for key, addresses in self.acknowledged.items():
            self._judge_list(key, addresses, self._world.store.record(key))
        for key in sorted({key for key, _ in self._world.nodes}):
            self._judge_cluster(key, self._world.store.record(key))
            self._judge_past(key)

    def _judge_daemons(self) -> None:
        """I5: every daemon shows what is in etcd, and grants."""
        world = self._world
        keys = sorted(world.store.values())
        for host in world.hosts:
            boot = host.boot
            if boot is None or not boot.is_open:
                self.violate(f"I5 {host.name} does not run")
                continue
            for key in keys:
                truth = world.store.record(key)
                found = self._get(boot, f"look up {key}", boot.directory.inspect(key))
                if (
                    found is not None
                    and truth is not None
                    and (found.version, found.nodes)
                    != (
                        truth.version,
                        truth.nodes,
                    )
                ):
                    self.violate(f"I5 {host.name} shows {found}, and not {truth}")
            created = self._get(boot, "create", boot.directory.create())
            if created is not None:
                registering = boot.directory.register(created.id, Node(addr="probe:1"), "probe")
                granted = self._get(boot, "register", registering)
                if granted is not None and granted.bootstrap != "granted":
                    self.violate(f"I5 {host.name} does not grant")
        world.watchers.judge()

    def _get(self, boot: EtcdBoot, what: str, asking: Any) -> Any:
        """Return an answer of a daemon."""
        got: list[Any] = []
        Deferred.fromCoroutine(asking).addBoth(got.append)
        self._world.timeline.run_until(self._world.now + _ANSWERS_WITHIN)
        if not got or isinstance(got[0], Failure):
            self.violate(f"I5 {boot.host.name} does not answer: {what}: {got[0].value if got else 'nothing'}")
            return None
        return got[0]

    def _why_they_wait(self, key: str, record: Any, nodes: list[SimNode]) -> str | None:
        if why := super()._why_they_wait(key, record, nodes):
            return why
        if key in self.imported and record.grant is None and not self._has_imported_nodes(key):
            # Nobody was told to bootstrap it here, and its nodes died.
            return "imported"
        if record.leader is not None and record.unreported is None and not record.confirmed:
            # A claim that all see is won once, so one whose answer was lost is never reported.
            return "visible"
        # Others were sent to a node that had not heard of its grant, and never asked again.
        return "hurried" if key in self.hurried else "unanswered" if record.unanswered else None

    def _has_imported_nodes(self, key: str) -> bool:
        """Report whether a node of the cluster that was imported still runs."""
        return any(each.discovery_id == key and self._runs(each) for each in self.clusters)

    def _judge_past(self, key: str) -> None:
        """P1: one order of decisions explains all answers."""
        past = self._world.clients.histories.get(key)
        if past is None or key in self.residue or key in self.imported:
            return
        # Windows are as long as etcd's clock says, begin again at elections, and are no limit for
        # grants that certainly were not heard.
        rules = Rules(
            window=1e6, ages_known=False, renews=True, lists_after_removal=False, passes_on=True, repeats=True
        )
        try:
            verdict = check(past.operations, rules, limit=_MOST_STATES)
        except Undecided:
            self._world.count("undecided")
            return
        self._world.count("explained")
        if not verdict:
            self.violate(f"I9 {key}: {verdict.text}")
