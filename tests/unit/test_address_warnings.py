"""The warnings about registered addresses: which one, what is wrong, and what to do."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from rqdisco.core.address_warnings import AddressWarning, address_warnings
from rqdisco.core.records import Node
from rqdisco.core.views import View

ID = "9af5306d-5842-851c-a00f-72fe57b0eb16"
GOOD = "10.0.0.9:4001"


def view(*nodes: Node | str, **fields: Any) -> View:
    listed = tuple(Node(addr=each) if isinstance(each, str) else each for each in nodes)
    return View(id=ID, owner="h", version=1, created_at=0, nodes=listed, **fields)


def one(shown: View) -> AddressWarning:
    (found,) = address_warnings(shown)
    return found


@pytest.mark.parametrize(
    "addr",
    [
        "10.0.0.1:4001",
        "10.0.0.1:65535",
        "n1.example.org:4001",
        "http://10.0.0.1:4001",
        "https://n1:4001/",
        "[fd00::1]:4001",
        "\u8282\u70b9.example:4001",
    ],
)
def test_an_address_that_works_has_no_warning(addr: str) -> None:
    assert address_warnings(view(addr, GOOD, Node(addr="10.0.0.2:4001", raft_addr="10.0.0.2:4002"))) == []


@pytest.mark.parametrize(
    ("addr", "problem", "advertised"),
    [
        ("10.0.0.1", "has no port", "10.0.0.1:4001"),
        ("n1.example.org", "has no port", "n1.example.org:4001"),
        ("http://10.0.0.1", "has no port", "10.0.0.1:4001"),
        ("[fd00::1]", "has no port", "'[fd00::1]:4001'"),
        ("localhost", "has no port", "HOST:4001"),
        ("10.0.0.1:70000", "has a port that is not from 1 to 65535", "10.0.0.1:4001"),
        ("10.0.0.1:65536", "has a port that is not from 1 to 65535", "10.0.0.1:4001"),
        ("n1:0", "has a port that is not from 1 to 65535", "n1:4001"),
        (f"n1:{'9' * 250}", "has a port that is not from 1 to 65535", "n1:4001"),
        ("fd00::1", "is not HOST:PORT", "HOST:4001"),
        ("10.0.0.1:", "is not HOST:PORT", "HOST:4001"),
        (":4001", "is not HOST:PORT", "HOST:4001"),
        ("user@n1:4001", "is not HOST:PORT", "HOST:4001"),
        ("n1:4001/path", "is not HOST:PORT", "HOST:4001"),
    ],
)
def test_an_address_that_nodes_cannot_join_is_named_with_the_flag_that_mends_it(
    addr: str, problem: str, advertised: str
) -> None:
    assert one(view(addr, GOOD)) == AddressWarning(
        addr,
        f"{addr} {problem}",
        f"restart its node with -http-adv-addr {advertised}, then run `rqdisco remove {ID} {shlex.quote(addr)}`",
    )


def test_a_raft_address_is_mended_by_its_own_flag() -> None:
    node = Node(addr=GOOD, raft_addr="10.0.0.9")
    assert one(view(node)) == AddressWarning(
        "10.0.0.9", "10.0.0.9 has no port", "restart its node with -raft-adv-addr 10.0.0.9:4002"
    )
    assert len(address_warnings(view(Node(addr="n1:70000", raft_addr="n1:70000")))) == 1, "known by Raft address only"


@pytest.mark.parametrize("addr", ["localhost:4001", "127.0.0.1:4001", "[::1]:4001", "http://localhost:4001"])
@pytest.mark.parametrize(("host", "origin"), [("10.0.0.7", ", registered from another machine"), (None, "")])
def test_a_loopback_address_from_another_machine_is_warned_of(addr: str, host: str | None, origin: str) -> None:
    found = one(view(addr, host=host))
    assert found.problem == (f"{addr} is a loopback address{origin}: only nodes on the machine of its node can join it")
    assert found.fix == "restart its node with -http-adv-addr and an address that the other machines reach"


def test_a_cluster_on_the_machine_of_a_daemon_has_no_warning() -> None:
    assert address_warnings(view("localhost:4001", "localhost:4003", host="@0011223344556677")) == []


@pytest.mark.parametrize("addr", ["0.0.0.0:4001", "[::]:4001"])
def test_an_unspecified_address_is_always_warned_of(addr: str) -> None:
    assert one(view(addr, host="@0011223344556677")).problem == f"{addr} is the address of no machine"


def test_an_address_beside_itself_with_a_scheme_is_to_be_removed() -> None:
    for addrs in (("http://n1:4001", "n1:4001"), ("n1:4001", GOOD, "http://n1:4001")):
        assert one(view(*addrs)) == AddressWarning(
            "http://n1:4001",
            "http://n1:4001 is listed beside n1:4001, and both are one node",
            f"run `rqdisco remove {ID} http://n1:4001`",
        )
    assert one(view("http://n1:4001", "https://n1:4001")).addr == "https://n1:4001"
    assert address_warnings(view("http://n1:4001", "n2:4001", "https://n3:4001")) == []


def test_a_command_in_a_fix_is_safe_to_paste() -> None:
    found = one(view("$(reboot)"))
    assert found.fix == (
        f"restart its node with -http-adv-addr '$(reboot):4001', then run `rqdisco remove {ID} '$(reboot)'`"
    )
