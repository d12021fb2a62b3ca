"""Hosts on which daemons run, crash, and lose their disks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rqdisco.backends.limits import Limits
from rqdisco.core.records import Record
from tests.simulated.boots import Boot
from tests.simulated.disk import Disk

if TYPE_CHECKING:
    from tests.simulated.world import World

_RESTART_SECONDS = 5.0


class Host:
    """A host on which a daemon runs."""

    def __init__(self, world: World, name: str, seeds: tuple[str, ...]) -> None:
        self.world, self.name, self.seeds = world, name, seeds
        self.disk = Disk()
        self.boot: Boot | None = None
        self.boot_id = f"{name}-0"
        self.skew = 0.0
        self.limits = Limits(retry_window_ms=int(world.window * 1000))
        self.unused_seconds: float | None = None
        self.backups: dict[int, Disk] = {}
        self.is_gone = False
        self._disks = self._boots = 0
        self._kept: dict[str, Record] = {}
        self._hinted: list[str] = []
        self._was_drained = False
        world.net.hosts[name] = self

    @property
    def known(self) -> dict[str, Record]:
        """The records on its disk."""
        return self._kept if self.boot is None else self.boot.records()

    @property
    def hinted(self) -> list[str]:
        """The IDs for which its disk has hints."""
        if self.boot is None:
            return self._hinted
        hints = self.boot.state.hints
        return [each.hint.id for owner in hints.owners for each in hints.for_owner(owner)]

    def has_met(self, incarnation: str) -> bool:
        """Report whether it knows of such a daemon; for one that does not run, whether it may."""
        if self.boot is None:
            return bool(self._kept)
        return self.boot.state.members.get(incarnation) is not None

    @property
    def is_drained(self) -> bool:
        """Report whether nobody asks for the records on its disk any more."""
        if self.boot is None:
            return self._was_drained
        # A daemon may have been handed over, although it does not know yet.
        return self.boot.state.members.own.state != "member"

    @property
    def takes_part(self) -> bool:
        """Report whether the daemon here is still a member, as far as it knows."""
        if self.boot is None:
            return False
        state = self.boot.state
        return state.members.own.state == "member" and state.fenced is None

    def start(self) -> None:
        """Start the daemon, unless it runs; without room for a new identity, try again later."""
        if self.boot is not None or self.is_gone:
            return
        if self.disk.incarnation is None:
            if self.disk.is_full:
                self.world.trace.log(f"{self.name} cannot start: no room")
                self.world.timeline.callLater(_RESTART_SECONDS, self.start)
                return
            self._disks += 1
            name = f"incarnation {self.name} {self._disks}"
            self.disk.incarnation = self.world.choices.random_bytes(name, 8).hex()
        self._boots += 1
        self.boot = Boot(self, self._boots)
        self.world.trace.log(f"{self.name} starts as {self.boot.owner}")
        self.boot.run()

    def crash(self, *, is_power_cut: bool, is_kept: bool) -> None:
        """End without notice. What was acknowledged is on the disk, and what is being written if it
        `is_kept`. After a power cut the machine has another boot.
        """
        if self.boot is None:
            return
        self._kept, self._hinted, self._was_drained = self.known, self.hinted, self.is_drained
        boot, self.boot = self.boot, None
        boot.end()
        self.world.trace.log(f"{self.name} dies ({'power' if is_power_cut else 'kill'})")
        boot.journal.cut_short(is_kept=is_kept)
        if is_power_cut:
            self.boot_id = f"{self.name}-{self._boots}"

    def back_up(self, number: int) -> None:
        """Keep the disk as it is for later: a snapshot of the host, identity and all."""
        self.backups[number] = self.disk.copy()

    def copy(self) -> Host:
        """Return an image of the host, under another name in the network."""
        duplicate = Host(self.world, f"{self.name}'", self.seeds)
        duplicate.disk = self.disk.copy()
        duplicate.unused_seconds = self.unused_seconds
        self.world.trace.log(f"{self.name} is copied")
        return duplicate

    def roll_back(self, number: int) -> None:
        """Put back a backup."""
        self.world.trace.log(f"{self.name} is rolled back")
        self.crash(is_power_cut=False, is_kept=False)
        self._replace_disk(self.backups[number])

    def lose_disk(self) -> None:
        """Lose the disk."""
        self.world.trace.log(f"{self.name} loses its disk")
        self.crash(is_power_cut=False, is_kept=False)
        self._replace_disk(Disk())

    def _replace_disk(self, disk: Disk) -> None:
        self.disk, self.backups = disk, {}
        self._kept, self._hinted, self._was_drained = {}, [], False

    def stand_still(self, seconds: float) -> None:
        """Stop the process for a while, as on a host that is migrated or swaps."""
        if self.boot is not None:
            self.world.trace.log(f"{self.name} stands still for {seconds:.1f} s")
            self.boot.sleep(seconds)
