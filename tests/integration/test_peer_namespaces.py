"""Three peer daemons, each on a host of its own, and their answers while hosts are cut off."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.support.hosts import Hosts
from tests.support.process import ask
from tests.support.trio import NAMES, Trio, incarnation_of

pytestmark = pytest.mark.process
PROMISED_SECONDS = 8.0
DISAGREE = "peers do not agree, or one is unreachable"
ADDED = "registrations from elsewhere added"


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("to make network namespaces takes root, and ip of iproute2")
    with Hosts(NAMES) as made:
        yield made


@pytest.fixture
def trio(hosts: Hosts, start: Start, tmp_path: Path) -> Iterator[Trio]:
    starts = {name: partial(start, run=hosts.run(name)) for name in NAMES}
    addresses = {name: f"{address}:4005" for name, address in hosts.addresses.items()}
    trio = Trio(start, tmp_path, addresses=addresses, starts=starts)
    yield trio
    assert trio.complaints == []


@dataclass(frozen=True)
class Answer:
    """The answer to a node on a host."""

    host: str
    discovery_id: str
    addr: str
    status: int
    nodes: Sequence[str]
    seconds: float

    @property
    def is_alone(self) -> bool:
        return list(self.nodes) == [self.addr]


def ask_everywhere(trio: Trio, ids: Sequence[str], times: int = 1) -> list[Answer]:
    """Register new nodes for all IDs on all hosts; on the hosts at once, on each host one after the
    other.
    """

    def on_host(name: str) -> list[Answer]:
        answers = []
        connection = trio.daemons[name].connect()
        for discovery_id in list(ids) * times:
            addr = f"{name}-{time.monotonic_ns()}:4001"
            begun = time.monotonic()
            reply = ask(connection, "POST", f"/{discovery_id}", {"addr": addr})
            seconds = time.monotonic() - begun
            answers.append(Answer(name, discovery_id, addr, reply.status, reply.document.get("nodes", ()), seconds))
        connection.close()
        return answers

    with ThreadPoolExecutor(len(NAMES)) as pool:
        return [answer for answers in pool.map(on_host, NAMES) for answer in answers]


def seeds(answers: Sequence[Answer], discovery_id: str) -> list[Answer]:
    return [answer for answer in answers if answer.is_alone and answer.discovery_id == discovery_id]


def seen(trio: Trio) -> dict[str, int]:
    """Return how much each daemon has logged by now."""
    return {name: len(daemon.events) for name, daemon in trio.daemons.items()}


CUTS: dict[str, tuple[Callable[[Hosts, str], None], Callable[[Hosts, str], None]]] = {
    "with-errors": (Hosts.take_down, Hosts.bring_up),
    "in-silence": (Hosts.unplug, Hosts.plug_in),
}


@pytest.mark.parametrize("how", CUTS)
def test_no_id_gets_two_seeds_while_a_host_is_cut_off_and_then_all_daemons_agree(
    trio: Trio, hosts: Hosts, how: str
) -> None:
    cut, heal = CUTS[how]
    led, empty = trio.daemons["a"].create_id(), trio.daemons["a"].create_id()
    led_at_c, empty_at_c = trio.daemons["c"].create_id(), trio.daemons["c"].create_id()
    ids = [led, empty, led_at_c, empty_at_c]
    answers = ask_everywhere(trio, [led, led_at_c])
    assert [len(seeds(answers, each)) for each in (led, led_at_c)] == [1, 1]

    before = seen(trio)
    cut(hosts, "c")
    while_cut = ask_everywhere(trio, ids, 2)
    assert [each for each in while_cut if each.status not in (200, 503) or each.seconds > PROMISED_SECONDS] == []
    for answer in while_cut:
        is_at_owner = (answer.host == "c") == (answer.discovery_id in (led_at_c, empty_at_c))
        if not is_at_owner:
            assert answer.status == (200 if answer.discovery_id in (led, led_at_c) else 503)
            assert not answer.is_alone
    assert seeds(while_cut, led) == seeds(while_cut, led_at_c) == []
    assert len(seeds(while_cut, empty)) == 1, "granted by its owner, which another peer can reach"
    assert len(seeds(while_cut, empty_at_c)) <= 1

    for name, daemon in trio.daemons.items():
        daemon.wait_for(DISAGREE, before[name])
    before = seen(trio)
    heal(hosts, "c")
    for name, daemon in trio.daemons.items():
        daemon.wait_for("peers agree", before[name], count=3)
    for owner, keeper in ("ac", "ca", "cb"):
        trio.daemons[owner].wait_for(ADDED, before[owner], sender=incarnation_of(trio.state(keeper)))
    answers += while_cut + ask_everywhere(trio, ids)
    assert [len(seeds(answers, each)) for each in ids] == [1] * 4
    assert_all_hold(trio, ids, answers)


def assert_all_hold(trio: Trio, ids: Sequence[str], answers: Sequence[Answer]) -> None:
    """Assert that all daemons list every answered node, at once by way of the owners, and then in
    every copy.
    """
    for discovery_id in ids:
        expected = {answer.addr for answer in answers if answer.status == 200 and answer.discovery_id == discovery_id}
        for daemon in trio.daemons.values():
            reply = daemon.request("GET", f"/{discovery_id}?consistent=1")
            assert set(reply.document["nodes"]) == expected
    trio.restart_all()
    for discovery_id in ids:
        assert len({tuple(listed) for listed in trio.lists(discovery_id)}) == 1


def test_two_hosts_that_reach_each_other_only_through_a_third_bootstrap_nothing_twice(trio: Trio, hosts: Hosts) -> None:
    led, empty, emptied = (trio.daemons["a"].create_id() for _ in range(3))
    answers = ask_everywhere(trio, [led])
    assert trio.register("a", emptied, "n1:4001") == (200, ["n1:4001"])
    assert trio.daemons["a"].request("DELETE", f"/{emptied}", {"addr": "n1:4001"}).status == 200

    before = seen(trio)
    hosts.part("a", "c")
    while_cut = ask_everywhere(trio, [led, empty])
    assert [each for each in while_cut if each.seconds > PROMISED_SECONDS] == []
    assert {each.status for each in while_cut if each.host != "c"} == {200}
    assert [each for each in while_cut if each.host == "c" and (each.is_alone or each.status not in (200, 503))] == []
    assert {each.status for each in while_cut if each.discovery_id == led} == {200}
    trio.daemons["a"].wait_for(DISAGREE, before["a"])
    trio.daemons["c"].wait_for(DISAGREE, before["c"])
    for name in NAMES:
        assert trio.register(name, emptied, "n2:4001")[0] == 503, "c may have sent another node to n1"

    before = seen(trio)
    hosts.join("a", "c")
    trio.daemons["a"].wait_for("peers agree", before["a"], count=3)
    trio.daemons["c"].wait_for("peers agree", before["c"], count=3)
    trio.daemons["a"].wait_for(ADDED, before["a"], sender=incarnation_of(trio.state("c")))
    assert trio.register("c", emptied, "n2:4001") == (200, ["n2:4001"])
    answers += while_cut + ask_everywhere(trio, [led, empty])
    assert [len(seeds(answers, each)) for each in (led, empty)] == [1, 1]
    assert_all_hold(trio, [led, empty], answers)
