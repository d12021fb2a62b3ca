"""Errors of the client for transactions whose requests and answers are lost, late, refused and
doubled, compared with what the model etcd did.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.etcd.client import _OUTCOMES, ClientConfig, EtcdClient
from rqdisco.backends.etcd.counts import EtcdCounts
from rqdisco.backends.etcd.failures import EtcdFailure, LeaseNotFound, NotApplied, OutcomeUnknown
from rqdisco.backends.etcd.messages import Compare, Range, Txn, WatchCreate, WatchResponse, put_op, range_op
from rqdisco.backends.etcd.revisions import RevisionGuard, Seen
from tests.support.etcd.gateway import Gateway
from tests.support.etcd.memory import (
    DELIVER,
    HANG,
    LOSE_ANSWER,
    LOSE_REQUEST,
    REFUSE,
    Fate,
    ModelStreams,
    ModelTransport,
    Sent,
)
from tests.support.etcd.model import ModelEtcd
from tests.support.etcd.wire import Refusal

NAMES = ("e1", "e2", "e3")
MEMBERS = {f"http://{name}:2379": name for name in NAMES}
KEY = b"counter"
LEADER_CHANGED = Refusal(14, "etcdserver: leader changed")


class Changing:
    """Clients that change one key, each change with a name of its own, through a bad network."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.clock = Clock()
        self.model = ModelEtcd(self.clock.seconds, NAMES)
        gateway = Gateway(self.model)
        self.transport = ModelTransport(gateway, MEMBERS, self.clock, self._plan)
        self.noticed: list[str] = []
        self._refused_until = 0.0
        self.client = EtcdClient(
            ClientConfig(tuple(MEMBERS)),
            self.transport,
            ModelStreams(gateway, MEMBERS, self.clock),
            self.clock,
            RevisionGuard(Seen(), self.noticed.append),
            EtcdCounts(),
        )
        # Every value that the key had, and what the client said about each change.
        self.values: list[bytes] = []
        self.said: dict[bytes, str] = {}
        self.client.watch([WatchCreate(key=KEY)], self._see)

    def _plan(self, _: Sent) -> Fate:
        now = self.clock.seconds()
        if self.random.random() < 0.05:
            self._refused_until = now + self.random.uniform(0, 4)
        if now < self._refused_until:
            return REFUSE
        late = self.random.uniform(0, 4)
        fates = [LOSE_REQUEST, LOSE_ANSWER, HANG, Fate(arrives=(late,)), Fate(arrives=(0.0, late))]
        fates += [Fate(arrives=(late,), breaks=0.1), Fate(instead=LEADER_CHANGED), Fate(answered=self.random.random())]
        return self.random.choice([*fates, *[DELIVER] * 6])

    async def change(self, name: bytes) -> None:
        """Try a change until its client says what became of it."""
        while True:
            try:
                found = (await self.client.range(Range(key=KEY))).kvs
                lease = (await self.client.grant_lease(self.random.choice((2, 60)))).id
            except NotApplied:
                continue
            await sleep(self.clock, self.random.uniform(0, 3))
            seen = found[0].mod_revision if found else 0
            txn = Txn(
                compare=(Compare(key=KEY, mod_revision=seen),),
                success=(put_op(KEY, name), put_op(b"window/" + name, b"", lease)),
                failure=(range_op(Range(key=KEY)),),
            )
            try:
                answer = await self.client.txn(txn, self.random.choice((0.5, 5.0)))
            except LeaseNotFound:
                self.said[name] = "no lease"
            except NotApplied:
                self.said[name] = "not applied"
            except OutcomeUnknown:
                self.said[name] = "unknown"
            else:
                shown = () if answer.succeeded else answer.responses[0].response_range.kvs  # type: ignore[union-attr]
                is_own = any(each.value == name for each in shown)
                self.said[name] = "applied" if answer.succeeded or is_own else "lost"
            return

    def run(self, changes: int) -> None:
        """Make changes at random times, then let everything arrive."""
        waiting = [Deferred.fromCoroutine(self.change(b"%d" % number)) for number in range(changes)]
        failures: list[Any] = []
        for each in waiting:
            each.addErrback(failures.append)
        while not all(each.called for each in waiting):
            self._pass_time()
        for _ in range(200):
            self._pass_time()
        assert failures == []

    def _pass_time(self) -> None:
        self.clock.advance(0.05)
        self.model.tick()

    def _see(self, response: WatchResponse) -> None:
        self.values.extend(event.kv.value for event in response.events)


async def sleep(clock: Clock, seconds: float) -> None:
    passed: Deferred[None] = Deferred()
    clock.callLater(seconds, passed.callback, None)
    await passed


@pytest.mark.parametrize("seed", range(40))
def test_what_the_client_says_about_a_transaction_is_what_became_of_it(seed: int) -> None:
    changing = Changing(seed)
    changing.run(6)
    assert len(changing.said) == 6
    for name, said in changing.said.items():
        if said in ("no lease", "not applied"):
            assert name not in changing.values
        elif said == "applied":
            assert changing.values.count(name) == 1
    assert changing.noticed == []


def test_the_seeds_see_every_outcome() -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(40):
        changing = Changing(seed)
        changing.run(6)
        outcomes.update(changing.said.values())
    assert set(outcomes) == {"applied", "lost", "no lease", "not applied", "unknown"}


def test_every_failure_is_counted_under_a_name() -> None:
    # Other modules have kinds of their own, which the client does not raise.
    assert {kind for kind in kinds(EtcdFailure) if kind.__module__ == EtcdFailure.__module__} <= set(_OUTCOMES)


def kinds(base: type[EtcdFailure]) -> set[type[EtcdFailure]]:
    return {kind for direct in base.__subclasses__() for kind in (direct, *kinds(direct))}
