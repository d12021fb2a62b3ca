"""A daemon at rest logs nothing: no line for each probe, exchange with peers, or request to etcd."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest
from twisted.internet.protocol import AbstractDatagramProtocol, Factory
from twisted.internet.task import Clock

from rqdisco.core.host_binding import THIS_MACHINE
from tests.support.any_daemon import AnyDaemon, Probe
from tests.support.daemon import Daemon, create_id, register, result
from tests.support.etcd.daemon import EtcdDaemon
from tests.support.gossip import settle, trio
from tests.unit.test_layout import MODULES

HOUR = 3600
LINES_OF_A_QUIET_HOUR = 0


@pytest.mark.parametrize("kind", [Daemon, EtcdDaemon])
def test_a_quiet_hour_with_probes_is_not_logged(kind: Any, log: list[dict[str, Any]]) -> None:
    probe = Probe()
    daemon: AnyDaemon = kind(probe=probe)
    assert daemon.rounds is not None
    discovery_id = create_id(daemon)
    for addr in ("http://10.0.0.1:4001", "10.0.0.2:4001", "https://10.0.0.3:4001", "10.0.0.4:4001"):
        result(register(daemon, discovery_id, addr, THIS_MACHINE))
    for number in (1, 2, 3):
        probe.network.listens(f"10.0.0.{number}")
    daemon.rounds.setServiceParent(daemon.background)
    daemon.background.startService()
    # That the fourth is down, and that the third does not speak TLS, is logged once.
    daemon.clock.pump([0.5] * 120)
    assert sorted(event["target"] for event in log if "target" in event) == [
        "http://10.0.0.4:4001",
        "https://10.0.0.3:4001",
    ]
    del log[:]

    daemon.clock.pump([0.5] * 2 * HOUR)

    assert len(probe.network.attempted) > 500
    assert len(log) == LINES_OF_A_QUIET_HOUR
    daemon.background.stopService()


def test_a_quiet_hour_among_peers_is_not_logged(log: list[dict[str, Any]]) -> None:
    clock = Clock()
    _, daemons = trio(clock)
    del log[:]
    settle(clock, HOUR)
    assert len(log) == LINES_OF_A_QUIET_HOUR
    for daemon in daemons:
        daemon.stop()
    settle(clock, 1)


def test_no_factory_and_no_datagram_protocol_logs_its_start_and_stop() -> None:
    classes = {
        each
        for name in MODULES
        for each in vars(
            importlib.import_module(f"rqdisco.{name}".removesuffix(".__init__").removesuffix("."))
        ).values()
        if inspect.isclass(each) and each.__module__.startswith("rqdisco.")
    }
    noisy = [each for each in classes if issubclass(each, (Factory, AbstractDatagramProtocol)) and each.noisy]
    assert noisy == []


def test_no_module_of_the_daemon_makes_a_factory_of_twisteds_own() -> None:
    daemon = {name: path.read_text() for name, path in MODULES.items() if not name.startswith("client")}
    makers = [name for name, text in daemon.items() if "Factory.forProtocol(" in text or "wrapClientTLS(" in text]
    assert makers == []
