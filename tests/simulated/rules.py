"""Each rule with a switch that turns it off, to prove that the simulator would notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from rqdisco.backends.gossip.core.machine import Machine
from rqdisco.backends.gossip.core.state import MachineConfig
from tests.simulated.hosts import Make


def without(rule: str) -> Make:
    """Return a factory of machines that do not keep a rule."""

    def make(config: MachineConfig, *more: Any) -> Machine:
        if rule == "R5a":
            config = replace(config, limits=replace(config.limits, retry_window_ms=0))
        machine = Machine(config, *more)
        if rule != "R5a":
            _SWITCHES[rule](machine)
        return machine

    return make


def _believe_twice(machine: Any) -> None:
    machine.is_credulous = True


_SWITCHES: dict[str, Callable[[Machine], None]] = {"R2 once": _believe_twice}
RULES = (*_SWITCHES, "R5a")
