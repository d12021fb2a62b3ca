"""Tests with real rqlited are made from the variable that names the binaries, each in the modes of
its version.
"""

from __future__ import annotations

import os

import pytest

from rqdisco.recipes.flags import MODES, FlagsRequest, make_flags
from rqdisco.recipes.parsing import Unsupported
from tests.real.nodes import View, view_in
from tests.real.versions import Rqlited, cases, paths, version_in

FIRST_AND_LAST = ("3.11.0", "3.12.0", "3", "4.6.0", "6.10.2", "6", "7.0.0", "7.1.0", "7.2.0", "7", "8.43.4", "10")


@pytest.mark.parametrize("between", [" ", os.pathsep, "\n", f" {os.pathsep} "])
def test_several_binaries_are_named_one_after_the_other(between: str) -> None:
    assert paths(between.join(("/usr/bin/rqlited", "/opt/rqlited-6"))) == ["/usr/bin/rqlited", "/opt/rqlited-6"]
    assert paths(between) == []


def test_the_version_of_a_binary_is_read_from_its_output() -> None:
    assert version_in("rqlited v8.43.4 linux amd64 go1.24 sqlite3.49.1 (commit f00, compiler gc)") == "8.43.4"
    assert version_in("rqlited 10 linux amd64 go1.26 sqlite3.53.2 (commit unknown, compiler gc)\n") == "10"
    with pytest.raises(ValueError, match="not what rqlited -version prints"):
        version_in("etcd Version: 3.4.23")


@pytest.mark.parametrize("version", FIRST_AND_LAST)
def test_a_version_is_tested_in_exactly_the_modes_that_have_recipes(version: str) -> None:
    printed = []
    for mode in MODES:
        zone = "disco.example" if mode.startswith("dns") else None
        try:
            make_flags(FlagsRequest(discovery_id="x", version=version, mode=mode, url="http://h:4000", zone=zone))
        except Unsupported:
            continue
        printed.append(mode)
    assert list(Rqlited("rqlited", version).modes) == printed


def test_each_binary_and_mode_has_a_test_and_no_test_is_in_vain() -> None:
    old, new = Rqlited("a", "6.10.2"), Rqlited("b", "8")
    every = cases([old, new], MODES, root=True)
    assert [str(case) for case in every] == ["6.10.2-legacy", "8-consul-kv", "8-dns", "8-dns-srv"]
    assert [str(case) for case in cases([old, new], MODES, root=False)] == ["6.10.2-legacy", "8-consul-kv"]
    assert cases([old], ["consul-kv"], root=True) == []


def test_a_node_gets_its_name_and_addresses_in_the_flags_of_its_version() -> None:
    flags = [Rqlited("a", version).addresses("n1", "h:1", "h:2") for version in ("3.14.0", "4", "5.0.0", "10")]
    assert flags[0] == ["-http=h:1", "-raft=h:2"]
    assert flags[1] == ["-http-addr=h:1", "-raft-addr=h:2"]
    assert flags[2] == flags[3] == ["-node-id=n1", "-http-addr=h:1", "-raft-addr=h:2"]


@pytest.mark.parametrize(
    "store",
    [
        {"leader": "127.0.0.1:4002", "peers": ["127.0.0.1:4002", "127.0.0.1:4004"]},
        {"leader": {"addr": "localhost:4002"}, "nodes": [{"addr": "127.0.0.1:4002"}, {"addr": "127.0.0.1:4004"}]},
        {
            "leader": {"addr": "127.0.0.1:4002"},
            "nodes": [
                {"addr": "127.0.0.1:4002", "suffrage": "voter"},
                {"addr": "127.0.0.1:4004", "suffrage": "Voter"},
                {"addr": "127.0.0.1:4006", "suffrage": "nonvoter"},
            ],
        },
    ],
    ids=["3 and 4", "5", "6 and later"],
)
def test_a_cluster_is_read_from_the_status_of_each_version(store: dict[str, object]) -> None:
    assert view_in(store) == View("127.0.0.1:4002", frozenset(("127.0.0.1:4002", "127.0.0.1:4004")))


def test_a_node_without_a_leader_sees_no_cluster() -> None:
    assert view_in({"open": False}) is None
    assert view_in({"leader": {"node_id": "", "addr": ""}, "nodes": None}) is None
    assert view_in({"leader": {"addr": "h:4002"}, "nodes": None}) == View("h:4002", frozenset())
