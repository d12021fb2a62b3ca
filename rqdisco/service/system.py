"""The operating system as the daemon uses it: reactor, clocks, randomness, process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from rqdisco.core.errors import CannotStart
from rqdisco.core.ids import RandomBytes

# Receives the addresses of the listeners by their names.
Announce = Callable[[Mapping[str, Sequence[str]]], None]


class System(msgspec.Struct, frozen=True, kw_only=True):
    """The process's clocks, randomness and ways to end.

    `network` identifies this boot and the network namespace, so the machine whose loopback
    addresses the daemon uses, None if that is unknown.

    `uptime` returns seconds since the boot that `boot_id` identifies, `wall_us` the wall clock in
    microseconds since 1970, `cpu` the seconds of CPU time of the calling thread, `jitter` random
    numbers around 1. `call_soon` runs a call after the events that the reactor is processing.
    `allow_descriptors` raises the file descriptor limit for that many connections and returns how
    many it allows. `on_hangup` registers a call to run on SIGHUP. `refuse` ends the process because
    it cannot start, `fail` because it can acknowledge nothing any more. `announce` is called once all
    listeners are open.
    """

    # The reactor has more interfaces than one type names: time, TCP, UDP, UNIX, processes, threads.
    reactor: Any
    environment: Mapping[str, str]
    pid: int
    boot_id: str
    network: str | None
    wall_us: Callable[[], int]
    uptime: Callable[[], float]
    cpu: Callable[[], float]
    random: RandomBytes
    jitter: Callable[[], float]
    call_soon: Callable[[Callable[[], None]], object]
    allow_descriptors: Callable[[int], int]
    on_hangup: Callable[[Callable[[], None]], None]
    refuse: Callable[[CannotStart], None]
    fail: Callable[[str], None]
    announce: Announce

    def wall(self) -> float:
        """Return the wall clock in seconds since 1970."""
        return self.wall_us() / 1_000_000
