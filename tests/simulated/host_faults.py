"""The effects of faults on the hosts of peers."""

from __future__ import annotations

from tests.simulated.faults import Faults
from tests.simulated.hosts import Host


class HostFaults(Faults):
    """Carries out the faults of hosts."""

    def _named(self, name: str) -> Host | None:
        return next((host for host in self._world.hosts if host.name == name), None)

    def on_add_node(self, near: str, number: int) -> None:
        host = self._named(near)
        if host is not None:
            self._world.operator.add_node(host, number)

    def on_crash(self, host: str, is_power_cut: bool, is_kept: bool, back: float) -> None:
        found = self._named(host)
        if found is not None:
            found.crash(is_power_cut=is_power_cut, is_kept=is_kept)
            self._world.judge.ages_are_known &= not is_power_cut
            self._later(back, found.start)

    def on_stall(self, host: str, seconds: float) -> None:
        found = self._named(host)
        if found is not None:
            found.stand_still(seconds)

    def on_lose_disk(self, host: str, back: float) -> None:
        found = self._named(host)
        if found is not None:
            self._world.judge.disk_lost(found, "disk")
            found.lose_disk()
            self._later(back, found.start)

    def on_back_up(self, host: str, backup: int) -> None:
        found = self._named(host)
        if found is not None:
            found.back_up(backup)

    def on_roll_back(self, host: str, backup: int, back: float) -> None:
        found = self._named(host)
        if found is not None and backup in found.backups:
            self._world.judge.disk_lost(found, "rollback")
            found.roll_back(backup)
            self._later(back, found.start)

    def on_copy(self, host: str, seconds: float) -> None:
        """Start an image of a host beside it, under another name in the network."""
        world, found = self._world, self._named(host)
        if found is None or found.disk.incarnation is None or any(each.name.endswith("'") for each in world.hosts):
            return
        world.judge.disk_copied(found)
        duplicate = found.copy()
        world.hosts.append(duplicate)
        duplicate.start()

        def stop() -> None:
            world.acts()
            duplicate.crash(is_power_cut=False, is_kept=True)
            duplicate.is_gone = True
            world.judge.copy_ended()
            world.hosts.remove(duplicate)
            # The operator restarts a fenced daemon.
            self._later(1, lambda: found.crash(is_power_cut=False, is_kept=True))
            self._later(2, found.start)

        self._later(seconds, stop)

    def on_fill(self, host: str, seconds: float) -> None:
        found = self._named(host)
        if found is None:
            return
        if not found.disk.is_full:
            found.disk.is_full, found.disk.full_since = True, self._world.now
        self._world.trace.log(f"{host} has a full disk")

        def empty() -> None:
            self._world.acts()
            found.disk.is_full = False

        self._later(seconds, empty)

    def on_drain(self, host: str) -> None:
        found = self._named(host)
        if found is not None:
            self._world.operator.drain(found)
