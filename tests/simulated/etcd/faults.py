"""The faults of a run: at any moment, or at the worst one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulated.etcd.hosts import EtcdBoot, EtcdHost
from tests.simulated.faults import Faults

if TYPE_CHECKING:
    from tests.simulated.etcd.world import EtcdWorld

FAULTS = (
    "requests",
    "repeats",
    "errors",
    "answers",
    "members",
    "elections",
    "partitions",
    "crashes",
    "stalls",
    "watches",
    "drift",
    "clocks",
    "compaction",
    "removals",
    "wipes",
    "replacements",
    "imports",
    "restores",
    "unannounced",
)


class EtcdFaults(Faults):
    _world: EtcdWorld

    def plan(self, end: float) -> None:
        world, random, net = self._world, self._random, self._world.net
        if "answers" in self.kinds:
            world.clients.lost_answers = random.choice((0.0, 0.05, 0.3))
        if "requests" in self.kinds:
            net.loss = random.choice((0.0, 0.02, 0.2))
            net.slow = random.choice((0.0, 0.02, 0.2))
            net.late = random.choice((0.0, 0.0, 0.05, 0.2))
        if "repeats" in self.kinds:
            net.repeats = random.choice((0.0, 0.1, 0.5))
        if "errors" in self.kinds:
            net.errors = random.choice((0.0, 0.05, 0.3))
        if "clocks" in self.kinds:
            for host in world.hosts:
                host.skew = random.choice((0.0, random.uniform(-3600, 3600)))
        world.store.drifts = "drift" in self.kinds and random.random() < 0.5
        if world.store.drifts:
            world.store.clock.run_at(random.uniform(0.8, 1.2))
        strikes: list[tuple[str, Callable[[], None]]] = [
            ("members", self._stop_member),
            ("members", self._hang_member),
            ("members", self._cut_member_off),
            ("members", self._lose_quorum),
            ("elections", self._elect),
            ("elections", self._elect),
            ("partitions", self._partition),
            ("crashes", self._crash),
            ("crashes", self._crash),
            ("crashes", self._crash_node),
            ("wipes", self._wipe_node),
            ("wipes", self._wipe_node),
            ("replacements", self._replace_node),
            ("replacements", self._replace_node),
            ("clocks", self._jump),
            ("stalls", self._stall),
            ("stalls", self._stall),
            ("watches", world.store.model.break_streams),
            ("compaction", world.store.compact),
            ("removals", world.operator.restart_in_a_hurry),
            ("removals", world.operator.clear_leader),
        ]
        possible = [call for name, call in strikes if name in self.kinds]
        for _ in range(random.randrange(1, 12) if possible else 0):
            world.timeline.callLater(random.uniform(0, end - world.now), random.choice(possible))
        restores = [kind for kind in ("restores", "unannounced") if kind in self.kinds]
        if restores and random.random() < (0.2 if len(self.kinds) > 5 else 1.0):
            self._plan_restore(random.choice(restores), end)

    def heal(self) -> None:
        """End all faults of daemons, of etcd and of networks."""
        world = self._world
        self.are_over = True
        world.trace.log("all faults end")
        world.net.calm()
        world.net.rejoin(set())
        world.clients.lost_answers = 0.0
        world.store.heal()
        for host in world.hosts:
            world.timeline.callLater(1, host.start)

    # Worst moments.

    def at_step(self, boot: EtcdBoot, step: str, is_write: bool) -> None:
        """A daemon is about to send a request or to receive an answer, or etcd has served it."""
        if not is_write or self.are_over or not boot.is_alive or self._random.random() >= self.spite / 12:
            return
        host = boot.host
        if "crashes" in self.kinds and self._random.random() < 0.5:
            self._world.trace.log(f"{host.name} {step}:")
            self._crash(host)
        elif "stalls" in self.kinds:
            # It is stopped before its next step.
            self._later(0, lambda: self._stall(host))

    def before_a_call(self) -> None:
        pass

    def after_creation(self, owner: str | None) -> None:
        pass

    def after_a_grant(self, name: str) -> None:
        """Apply a fault to a daemon that has just granted a node, or to etcd."""
        if not self._strikes():
            return
        host = next(each for each in self._world.hosts if each.name == name)
        strikes: list[tuple[str, Callable[[], None]]] = [
            ("crashes", lambda: self._crash(host)),
            ("stalls", lambda: self._stall(host)),
            ("elections", self._elect),
            ("members", self._lose_quorum),
        ]
        possible = [call for kind, call in strikes if kind in self.kinds]
        if possible:
            self._later(self._random.choice((0, 0.002, 0.02, 2)), self._random.choice(possible))

    def after_a_grant_is_written(self, key: str, addr: str, boot: EtcdBoot) -> None:
        """A script removes a node whose daemon has not learned yet that it may bootstrap."""
        node = self._world.nodes.get((key, addr))
        if "removals" not in self.kinds or node is None or not node.is_up or self.are_over:
            return
        if self._random.random() < self.spite / 4:
            self._later(0, lambda: self._world.operator.clean_up_before(node))
            if "stalls" in self.kinds and boot.host.boot is boot:
                self._later(0, lambda: self._stall(boot.host))

    def _plan_restore(self, kind: str, end: float) -> None:
        world, random = self._world, self._random
        at = random.uniform(5, end - world.now)
        self._later(random.uniform(0, at - 1), world.store.save)
        self._later(at, lambda: world.operator.restore(is_announced=kind == "restores"))

    # etcd.

    def _stop_member(self) -> None:
        model, name = self._world.store.model, self._some_member()
        if model.members[name].running:
            self._world.trace.log(f"{name} dies")
            model.stop(name)
            self._disturbed(lambda: None if model.members[name].running else model.start(name), f"{name} starts")

    def _hang_member(self) -> None:
        model, name = self._world.store.model, self._some_member()
        self._world.trace.log(f"{name} hangs")
        model.hang(name)
        self._disturbed(lambda: model.resume(name), f"{name} goes on")

    def _cut_member_off(self) -> None:
        model, name = self._world.store.model, self._some_member()
        self._world.trace.log(f"{name} is cut off")
        model.cut_off(name)
        self._disturbed(lambda: model.rejoin(name, late=self._world.store.decides_late), f"{name} is back")

    def _lose_quorum(self) -> None:
        model, names = self._world.store.model, self._random.sample(sorted(self._world.store.model.members), 2)
        self._world.trace.log(f"{names} are cut off")
        model.cut_off(*names)
        self._disturbed(lambda: model.rejoin(*names, late=self._world.store.decides_late), f"{names} are back")

    def _disturbed(self, mend: Callable[[], None], text: str) -> None:
        store = self._world.store
        store.changed()
        self._later(1, store.notice)

        def mended() -> None:
            self._world.trace.log(text)
            mend()
            store.changed()

        self._later(self._random.choice((0.5, 3, 10, 30)), mended)

    def _elect(self) -> None:
        self._world.store.depose()

    def _some_member(self) -> str:
        return self._random.choice(sorted(self._world.store.model.members))

    # Networks and daemons.

    def _partition(self) -> None:
        host, members = self._random.choice(self._world.hosts), sorted(self._world.store.model.members)
        some = self._random.sample(members, self._random.randrange(1, len(members) + 1))
        self._cut({(host.name, member) for member in some}, f"{host.name} cut off from {some}")

    def _crash(self, host: EtcdHost | None = None) -> None:
        host = host or self._random.choice(self._world.hosts)
        host.crash()
        self._later(self._random.choice((0.5, 5, 30)), host.start)

    def _stall(self, host: EtcdHost | None = None) -> None:
        (host or self._random.choice(self._world.hosts)).stand_still(self._random.choice((0.5, 3, 6, 9, 12, 20, 60)))

    def during_a_request(self, what: str, key: str, is_at_owner: bool) -> None:
        verb, _, addr = what.partition(" ")
        node = self._world.nodes.get((key, addr))
        if self.are_over or node is None or not node.is_up or verb not in ("register", "claim"):
            return
        if "replacements" in self.kinds and self._random.random() < self.spite / 4:
            self._later(self._random.choice((0, 0.001, 0.01, 1)), lambda: self._replace_node(node))
        if "removals" in self.kinds and self._random.random() < self.spite / 12:
            seconds = self._random.choice((0, 0.001, 0.01, 1, 5))
            self._later(seconds, lambda: self._world.operator.clean_up_before(node))
