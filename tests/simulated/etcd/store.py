"""The etcd of a run: the model with members that fail and leases whose clock is wrong, and what its
records really say.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING

import msgspec

from rqdisco.backends.etcd import etcd_record
from rqdisco.backends.etcd.etcd_record import EtcdRecord
from rqdisco.backends.etcd.grants import ANSWER_LEASE_SECONDS
from rqdisco.backends.etcd.keys import EtcdKeys
from rqdisco.backends.etcd.meta import Meta, decode_meta
from tests.simulated.timeline import Timeline
from tests.support.etcd.daemon import PREFIX
from tests.support.etcd.gateway import Gateway
from tests.support.etcd.model import ModelEtcd, Saved
from tests.support.etcd.rendering import Answer
from tests.support.etcd.wire import KeyValue

if TYPE_CHECKING:
    from tests.simulated.etcd.hosts import EtcdBoot
    from tests.simulated.etcd.world import EtcdWorld

# How much a clock of etcd may be too fast or too slow.
DRIFT = 0.2


class LeaseClock:
    """The clock of etcd's leader; `rate` is how fast it runs."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._since = self._at = 0.0
        self.rate = 1.0

    def seconds(self) -> float:
        return self._at + (self._timeline.now - self._since) * self.rate

    def run_at(self, rate: float) -> None:
        self._at, self._since, self.rate = self.seconds(), self._timeline.now, rate


class Backup(msgspec.Struct):
    saved: Saved
    records: dict[str, bytes]


class Store:
    """An etcd of three members."""

    def __init__(self, world: EtcdWorld, random: Random) -> None:
        self._world = world
        self._random = random
        self.keys = EtcdKeys(PREFIX)
        self.clock = LeaseClock(world.timeline)
        names = ["m1", "m2", "m3"]
        self.model = ModelEtcd(self.clock.seconds, names)
        self.model.elects_at_once = False
        self.gateway = Gateway(self.model)
        self.endpoints = {f"http://{name}:2379": name for name in names}
        self.drifts = False
        self.backup: Backup | None = None
        self._is_electing = False
        # When the time to live of all leases last began again.
        self._rearmed = 0.0
        self._first_sent: dict[bytes, float] = {}
        # By ID, when the window of a grant was last seen open, and for which grant.
        self._windows: dict[str, tuple[float, str]] = {}
        # By ID, when its grant was last known not to have been heard.
        self._unheard: dict[str, float] = {}
        # By ID and address, the nonces of its registrations in order, None where it was removed.
        self.registrations: dict[tuple[str, str], list[str | None]] = {}
        # The revision up to which they are noted.
        self._noted = 1
        # When the last of them was written.
        self.registered: dict[tuple[str, str], float] = {}

    # Requests.

    def sent(self, body: bytes) -> None:
        """A daemon sends a copy of a write."""
        self._first_sent.setdefault(body, self._world.now)

    def post(self, member: str, path: str, body: bytes, boot: EtcdBoot) -> Answer:
        """Let a member serve a request of a daemon, and check what it changed."""
        model = self.model
        model.tick()
        self._look()
        keyspace, revision = model.keyspace, model.keyspace.revision
        answer = self.gateway.post(member, path, body)
        if keyspace.revision != revision:
            changed = self._changed_since(revision)
            self._check_age(body, changed)
            self._strike_at_a_grant(changed, boot)
        self._look()
        return answer

    def _changed_since(self, revision: int) -> dict[bytes, KeyValue]:
        keyspace = self.model.keyspace
        return {each.after.key: each.after for each in keyspace.log[keyspace.first_change(revision + 1) :]}

    def _note_registrations(self, changed: Mapping[bytes, KeyValue]) -> None:
        for key, found in changed.items():
            if not key.startswith(self.keys.ids):
                continue
            discovery_id, record = self.keys.id_of(key), etcd_record.decode(found.value)
            known = {addr for of, addr in self.registrations if of == discovery_id}
            for addr in sorted(known | {node.addr for node in record.nodes}):
                past = self.registrations.setdefault((discovery_id, addr), [])
                nonce = record.node_nonces.get(addr)
                if not past or past[-1] != nonce:
                    past.append(nonce)
                    self.registered[discovery_id, addr] = self._world.now

    def _strike_at_a_grant(self, changed: Mapping[bytes, KeyValue], boot: EtcdBoot) -> None:
        for key, found in changed.items():
            record = self.record(self.keys.id_of(key)) if key.startswith(self._answers) and found.version else None
            if record is not None and record.grant is not None:
                self._world.faults.after_a_grant_is_written(record.id, record.grant.addr, boot)

    @property
    def _answers(self) -> bytes:
        return self.keys.base + b"answers/"

    def _check_age(self, body: bytes, changed: Mapping[bytes, KeyValue]) -> None:
        """E3: no grant is applied when the leases of its first copy are long over."""
        since = max(self._first_sent.get(body, self._world.now), self._rearmed)
        age = self._world.now - since
        if age <= ANSWER_LEASE_SECONDS / (1 - DRIFT) + 0.5:
            return
        if any(key.startswith(self._answers) and found.version for key, found in changed.items()):
            self._world.judge.violate(f"E3 a grant is written {age:.0f} s after it was sent")

    def _look(self) -> None:
        """Note what was registered, which windows are open, and which grants were not heard."""
        if self.model.keyspace.revision != self._noted:
            self._note_registrations(self._changed_since(self._noted))
            self._noted = self.model.keyspace.revision
        now, windows = self._world.now, self.keys.base + b"windows/"
        for key, found in self.model.keyspace.current.items():
            if key.startswith(windows):
                self._windows[self.keys.id_of(key)] = now, found.value.decode()
            elif key.startswith(self.keys.ids) and b'"unanswered":true' in found.value:
                self._unheard[self.keys.id_of(key)] = now

    def was_open(self, key: str, grant: str, since: float) -> bool:
        """Report whether the window of a grant was open at some time since then."""
        self._look()
        at, of = self._windows.get(key, (0.0, ""))
        return at >= since and of == grant

    def was_unheard(self, key: str, since: float) -> bool:
        """Report whether a grant was marked at some time since then as certainly not heard."""
        self._look()
        return self._unheard.get(key, -1.0) >= since

    # Truth.

    def record(self, key: str) -> EtcdRecord | None:
        """Return the record of an ID."""
        found = self.model.keyspace.current.get(self.keys.id(key))
        if found is None:
            return None
        record = etcd_record.decode(found.value)
        return msgspec.structs.replace(record, ownerless=True) if record.epoch < self.meta.epoch else record

    @property
    def meta(self) -> Meta:
        return decode_meta(self.model.keyspace.current[self.keys.meta].value, "v1/meta")

    def values(self) -> dict[str, bytes]:
        """Return all records as they are stored, by ID."""
        current = self.model.keyspace.current
        return {self.keys.id_of(key): found.value for key, found in current.items() if key.startswith(self.keys.ids)}

    # Faults.

    def changed(self) -> None:
        """Members were stopped, started, cut off or joined again: there may be an election."""
        model = self.model
        if model.leader is not None:
            model.decide(self.decides_late)
            self._look()
        elif self._has_majority() and not self._is_electing:
            self._is_electing = True
            self._world.timeline.callLater(self._random.uniform(0.2, 3), self._elect)

    def depose(self) -> None:
        """The leader is lost, and another one elected."""
        if self.model.leader is not None:
            self.model.depose()
            self.changed()

    def notice(self) -> None:
        """Members without a leader notice that."""
        self.model.notice()

    def save(self) -> None:
        """Make a backup, if there is anything."""
        if self.keys.meta in self.model.keyspace.current:
            self.backup = Backup(self.model.save(), self.values())

    def restore(self) -> list[str]:
        """Put the backup back; return the IDs that it changes."""
        assert self.backup is not None
        now, then = self.values(), self.backup.records
        self._first_sent.clear()
        self.registrations.clear()
        self.model.restore(self.backup.saved)
        self._noted = self.model.keyspace.revision
        self._rearmed = self._world.now
        self.changed()
        return sorted(key for key in now.keys() | then.keys() if now.get(key) != then.get(key))

    def compact(self) -> None:
        keyspace = self.model.keyspace
        self._look()
        if keyspace.revision > keyspace.compacted:
            keyspace.compact(keyspace.revision)

    def heal(self) -> None:
        model = self.model
        for name, member in model.members.items():
            if not member.running:
                model.start(name)
            if member.hanging:
                model.resume(name)
        model.rejoin(late=self.decides_late)
        self.clock.run_at(1.0)
        self.drifts = False
        self.changed()

    def _elect(self) -> None:
        self._is_electing = False
        model = self.model
        if model.leader is not None or not self._has_majority():
            return
        model.tick()
        self._look()
        if self.drifts:
            self.clock.run_at(self._random.uniform(1 - DRIFT, 1 + DRIFT))
        model.elect(self._random.choice([each.name for each in model.members.values() if each.reachable]))
        self._rearmed = self._world.now
        self._world.trace.log(f"{model.leader.name if model.leader else None} leads etcd")
        model.decide(self.decides_late)
        self._look()

    def _has_majority(self) -> bool:
        members = self.model.members.values()
        return 2 * sum(each.reachable for each in members) > len(members)

    def decides_late(self) -> bool:
        return self._random.random() < 0.5
