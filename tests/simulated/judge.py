"""The invariants of every run, and what is excused because no daemon could know better."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rqdisco.backends.gossip.core import decide, queries
from rqdisco.core import codec
from rqdisco.core.records import Record, is_unused
from tests.simulated.answers import AnswerJudge, is_in_doubt_for_good
from tests.simulated.boots import Boot
from tests.simulated.ledger import is_named
from tests.simulated.nodes import SimNode
from tests.simulated.unsaved import unsaved
from tests.support.linearizable import Undecided, check
from tests.support.one_list import Rules

if TYPE_CHECKING:
    from tests.simulated.world import AnyWorld

_MOST_STATES = 20_000


class Judge(AnswerJudge):
    """The judge of what daemons hold: at new versions, and once all faults are long over."""

    def __init__(self, world: AnyWorld) -> None:
        super().__init__(world)
        self._seen: dict[tuple[str, str, int], bytes] = {}
        # The ID that an owner changed under each of its versions.
        self._key_of: dict[tuple[str, int], str] = {}
        self._looked_at: dict[Boot, int] = {}

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
        if lost or (record is None and not is_named(key)):
            text = f"I4 {key} lost {sorted(lost)}"
            why = self.residue.get(key)
            if why is None and record is not None and lost <= self._unsure.get(key, set()):
                why = "removal"
            self.violate(text) if why is None else self.excuse(why, text)

    def _is_expired(self, key: str, record: Record | None) -> bool:
        """Report whether an ID is gone in the way an unused one may be."""
        is_expired = record is None and self._world.unused_seconds is not None and key not in self._used
        if is_expired and not is_named(key):
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
        if past is None or key in self.residue or key in self.in_doubt or is_in_doubt_for_good(record):
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
