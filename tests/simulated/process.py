"""The process of a daemon: its clocks, and what becomes due while it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from rqdisco.backends.gossip.core.inputs import Now
from rqdisco.core.records import Moment
from tests.support.any_daemon import WALL_US

if TYPE_CHECKING:
    from tests.simulated.hosts import Host

_BOOT_BYTES = 6


class Process:
    """A process on a host, which may be stopped for some seconds, as by SIGSTOP."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.is_alive = True
        # When the process goes on that was stopped last, and for how long it was stopped so far.
        self.awake_at = 0.0
        self.slept = 0.0
        self._heap = host.world.timeline
        self._now: Now | None = None
        self._boot_number = int.from_bytes(sha256(host.boot_id.encode()).digest()[:_BOOT_BYTES], "big")

    def now(self) -> Now:
        now, seconds = self._now, self._heap.now
        if now is None or now.seconds != seconds:
            moment = Moment(self._boot_number, int(seconds * 1000))
            wall_us = WALL_US + int((seconds + self.host.skew) * 1_000_000)
            now = self._now = Now(seconds, moment, wall_us)
        return now

    @property
    def sleeps_for(self) -> float:
        """The seconds for which the process is still stopped, 0 if it runs."""
        left: float = self.awake_at - self._heap.now
        return left if left > 0 else 0.0

    def was_awake_since(self, moment: float) -> bool:
        """Report whether the process was not stopped since then."""
        return self.awake_at < moment

    def sleep(self, seconds: float) -> None:
        """Stop the process; what becomes due happens afterwards."""
        self.slept += seconds
        self.awake_at = max(self.awake_at, self._heap.now) + seconds

    def later(self, delay: float, call: Callable[..., Any], *args: Any) -> None:
        """Call after a delay, unless the daemon has ended by then."""
        self._heap.callLater(delay, self.when_awake, call, args)

    def when_awake(self, call: Callable[..., Any], args: tuple[Any, ...] = ()) -> None:
        """Call now, or when the process goes on."""
        if not self.is_alive:
            return
        if self.awake_at > self._heap.now:
            self._heap.call_at(self.awake_at, self.when_awake, call, args)
        else:
            call(*args)
