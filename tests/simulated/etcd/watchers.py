"""Clients that watch IDs through event streams: each learns of every change, sooner or later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rqdisco.core.views import View
from tests.simulated.etcd.hosts import EtcdBoot

if TYPE_CHECKING:
    from tests.simulated.etcd.world import EtcdWorld

_RETRY_SECONDS = 1.0


class Watchers:
    """One client at each daemon that watches all IDs of nodes."""

    def __init__(self, world: EtcdWorld) -> None:
        self._world = world
        self._shown: dict[tuple[EtcdBoot, str], View | None] = {}

    def watch(self, boot: EtcdBoot) -> None:
        """Watch the IDs of nodes, those that come later too."""
        for key in sorted({key for key, _ in self._world.nodes}):
            if (boot, key) not in self._shown:
                self._shown[boot, key] = None
                boot.directory.watch(key, lambda key=key: self._look(boot, key))  # type: ignore[misc] # of this turn
                self._look(boot, key)
        boot.clock.callLater(2, self.watch, boot)

    def judge(self) -> None:
        """I5: every watcher has seen what is in etcd."""
        for (boot, key), view in self._shown.items():
            truth = self._world.store.record(key)
            if not boot.is_alive or truth is None:
                continue
            if view is None or view.version != truth.version:
                self._world.judge.violate(f"I5 a watcher at {boot.host.name} saw {view}, and not {truth}")

    def _look(self, boot: EtcdBoot, key: str) -> None:
        def looked(outcome: View | Failure) -> None:
            if not isinstance(outcome, Failure):
                before = self._shown[boot, key]
                if before is None or before.version <= outcome.version or key in self._world.judge.residue:
                    self._shown[boot, key] = outcome
            elif boot.is_alive:
                boot.clock.callLater(_RETRY_SECONDS, self._look, boot, key)

        Deferred.fromCoroutine(boot.directory.look_up(key)).addBoth(looked)
