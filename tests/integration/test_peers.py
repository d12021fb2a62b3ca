"""Three peer daemons in separate processes."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Start
from tests.support.process import Environment
from tests.support.proxied_peers import at_last
from tests.support.trio import KEY, Trio, incarnation_of

pytestmark = pytest.mark.process


@pytest.fixture
def trio(start: Start, tmp_path: Path) -> Trio:
    return Trio(start, tmp_path)


def command(installed: Environment, trio: Trio, name: str, *arguments: str) -> Any:
    return installed.run("rqdisco", "--url", f"unix:{trio.socket(name)}", *arguments)


def test_nodes_at_different_daemons_form_one_cluster_and_every_daemon_lists_it(trio: Trio) -> None:
    discovery_id = trio.daemons["a"].create_id()
    assert trio.register("b", discovery_id, "n1:4001") == (200, ["n1:4001"])
    assert trio.register("c", discovery_id, "n2:4001") == (200, ["n1:4001", "n2:4001"])
    assert trio.register("a", discovery_id, "n3:4001") == (200, ["n1:4001", "n2:4001", "n3:4001"])
    for daemon in trio.daemons.values():
        reply = daemon.request("GET", f"/{discovery_id}?consistent=1")
        assert reply.document["nodes"] == ["n1:4001", "n2:4001", "n3:4001"]
        assert "age" not in reply.headers
    assert trio.daemons["b"].request("GET", f"/{discovery_id}").headers["age"] == "0"
    assert "age" not in trio.daemons["a"].request("GET", f"/{discovery_id}").headers


def test_a_killed_owner_stops_nobody_from_joining_and_learns_of_it_later(trio: Trio) -> None:
    discovery_id = trio.daemons["a"].create_id()
    empty = trio.daemons["a"].create_id()
    assert trio.register("a", discovery_id, "n1:4001") == (200, ["n1:4001"])
    assert trio.register("a", discovery_id, "n2:4001")[0] == 200
    trio.daemons["a"].kill()
    trio.daemons["b"].wait_for("peer does not answer", url=trio.url("a"))
    assert trio.register("b", discovery_id, "n3:4001") == (200, ["n1:4001", "n2:4001", "n3:4001"])
    assert trio.register("b", discovery_id, "n1:4001")[0] == 503, "it may just have been granted"
    assert trio.register("b", empty, "n1:4001")[0] == 503, "only the owner grants"
    other = trio.daemons["b"].create_id()
    assert trio.register("c", other, "n9:4001") == (200, ["n9:4001"])
    restarted = trio.start("a")
    restarted.wait_for("registrations from elsewhere added")
    assert restarted.nodes(discovery_id) == ["n1:4001", "n2:4001", "n3:4001"]
    assert trio.register("c", empty, "n1:4001") == (200, ["n1:4001"])


def test_an_owner_stopped_during_a_first_registration_leaves_no_second_seed(trio: Trio) -> None:
    discovery_id = trio.daemons["a"].create_id()
    trio.daemons["a"].process.send_signal(signal.SIGSTOP)
    try:
        assert trio.register("b", discovery_id, "n1:4001")[0] == 503
        assert trio.register("c", discovery_id, "n2:4001")[0] == 503
    finally:
        trio.daemons["a"].process.send_signal(signal.SIGCONT)
    trio.daemons["b"].wait_for("peer answers", since=1, url=trio.url("a"))
    answers = [trio.register("b", discovery_id, "n1:4001"), trio.register("b", discovery_id, "n2:4001")]
    assert sum(len(nodes) == 1 for _, nodes in answers) <= 1


def test_the_consul_key_of_an_unknown_id_has_one_winner_at_whichever_daemon(trio: Trio) -> None:
    def claim(name: str, number: int) -> bytes:
        value = {"id": str(number), "api_addr": f"http://n{number}:4001", "addr": f"n{number}:4002"}
        return trio.daemons[name].request("PUT", "/v1/kv/my-cluster/leader?cas=0", value).body

    assert sorted(claim(name, number) for number, name in enumerate("abcabc")) == [b"false"] * 5 + [b"true"]


def test_the_nodes_of_a_name_that_was_created_start_while_a_daemon_is_down(trio: Trio, installed: Environment) -> None:
    def claim(name: str, key: str) -> tuple[int, bytes]:
        value = {"id": "1", "api_addr": "http://n1:4001", "addr": "n1:4002"}
        reply = trio.daemons[name].request("PUT", f"/v1/kv/{key}/leader?cas=0", value)
        return reply.status, reply.body

    keys = [f"orders-{number}" for number in range(8)]
    for number, key in enumerate(keys):
        created = command(installed, trio, "abc"[number % 3], "create", "--name", key)
        assert (created.returncode, created.stdout) == (0, f"{key}\n"), created.stderr
    refused = command(installed, trio, "b", "create", "--name", keys[0])
    assert (refused.returncode, refused.stderr) == (1, f"rqdisco: {keys[0]} exists already\n")
    trio.daemons["c"].kill()
    for name in "ab":
        trio.daemons[name].wait_for("peer does not answer", url=trio.url("c"))

    def is_refused_for_c() -> bool:
        refused = command(installed, trio, "a", "create", "--name", "invoices")
        assert refused.returncode != 0
        return str(refused.stderr).endswith(": cannot create a name while c does not answer\n")

    # On a busy machine another daemon may seem to be down for a moment.
    assert at_last(is_refused_for_c)
    assert claim("a", "invoices")[0] == 503
    owned = [key for key in keys if trio.explain("a", key)["home"] != incarnation_of(trio.state("c"))]
    assert owned
    assert [claim("ab"[number % 2], key) for number, key in enumerate(owned)] == [(200, b"true")] * len(owned)


def test_an_operator_sees_peers_and_forgets_a_lost_one(trio: Trio, installed: Environment) -> None:
    discovery_id = trio.daemons["c"].create_id()
    assert trio.register("c", discovery_id, "n1:4001")[0] == 200
    shown = command(installed, trio, "a", "peers")
    assert shown.returncode == 0, shown.stderr
    assert [line.split("\t")[2] for line in shown.stdout.splitlines()] == ["ready (queried)", "up", "up"]
    assert command(installed, trio, "a", "peers", "forget", "c", "--yes").returncode == 1, "it answers"
    trio.daemons["c"].kill()
    trio.daemons["a"].wait_for("peer does not answer", url=trio.url("c"))
    assert command(installed, trio, "a", "peers").returncode == 1
    forgotten = command(installed, trio, "a", "peers", "forget", "c", "--yes")
    assert forgotten.returncode == 0, forgotten.stderr
    assert trio.register("a", discovery_id, "n2:4001") == (200, ["n1:4001", "n2:4001"])
    back = trio.start("c")
    back.wait_for("daemon fenced")
    assert back.request("POST", "/").status == 503


def test_a_drained_daemon_hands_its_clusters_to_another(trio: Trio, installed: Environment) -> None:
    discovery_id = trio.daemons["c"].create_id()
    drained = command(installed, trio, "c", "drain", "--to", "b", "--yes")
    assert (drained.returncode, drained.stdout) == (0, "b\n"), drained.stderr
    trio.daemons["c"].terminate()
    assert trio.register("a", discovery_id, "n1:4001") == (200, ["n1:4001"]), "the new owner grants"
    assert "orphaned" not in trio.daemons["b"].request("GET", f"/{discovery_id}").document


def test_a_daemon_gets_peers_and_runs_alone_again_and_keeps_deciding_about_its_ids(
    start: Start, installed: Environment, tmp_path: Path
) -> None:
    alone = start(tmp_path / "a")
    led, empty = alone.create_id(), alone.create_id()
    assert alone.nodes(led) == []
    assert alone.request("POST", f"/{led}", {"addr": "n1:4001"}).document["nodes"] == ["n1:4001"]
    alone.terminate()
    trio = Trio(start, tmp_path)
    assert trio.register("b", led, "n2:4001") == (200, ["n1:4001", "n2:4001"])
    of_c = trio.daemons["c"].create_id()
    for name in "cb":
        drained = command(installed, trio, name, "drain", "--to", "a", "--yes")
        assert drained.returncode == 0, drained.stderr
        trio.daemons[name].terminate()
    trio.daemons["a"].terminate()
    alone = start(tmp_path / "a")
    assert alone.nodes(led) == ["n1:4001", "n2:4001"]
    for discovery_id in (empty, of_c, alone.create_id()):
        assert alone.request("POST", f"/{discovery_id}", {"addr": "n3:4001"}).document["nodes"] == ["n3:4001"]
    assert [*trio.complaints, *alone.complaints] == []


def test_a_daemon_of_a_set_does_not_start_without_its_peer_options(
    trio: Trio, installed: Environment, tmp_path: Path
) -> None:
    trio.daemons["c"].terminate()
    bootstrap = installed.run(*installed.twistd(tmp_path / "c"))
    assert bootstrap.returncode == 78
    assert "may not decide without them" in bootstrap.stderr


@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), ("", "no key"), ("c2hvcnQ=", "too short")])
def test_peering_needs_a_key(installed: Environment, tmp_path: Path, content: str | None, why: str) -> None:
    if content is not None:
        (tmp_path / "keys").write_text(content)
    options = ("--peer-listen=tcp:0:interface=127.0.0.1", "--advertise=http://127.0.0.1:1")
    refused = installed.run(*installed.twistd(tmp_path / "s", *options, f"--peer-keys={tmp_path / 'keys'}"))
    assert refused.returncode == 64
    assert why in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_keys_are_rotated_while_all_daemons_run(trio: Trio, tmp_path: Path) -> None:
    new = "bmV3IGtleSBvZiB0d2VudHktZm91ciBieXRlcyEhISE="
    for content in (f"{KEY}\n{new}\n", f"{new}\n{KEY}\n", f"{new}\n"):
        (tmp_path / "keys").write_text(content)
        before = {name: len(daemon.events) for name, daemon in trio.daemons.items()}
        for daemon in trio.daemons.values():
            daemon.process.send_signal(signal.SIGHUP)
        for name, daemon in trio.daemons.items():
            daemon.wait_for("peer keys reloaded", since=before[name])
    discovery_id = trio.daemons["a"].create_id()
    assert trio.register("b", discovery_id, "n1:4001") == (200, ["n1:4001"])
    assert all(daemon.complaints == [] for daemon in trio.daemons.values())
