"""`rqdisco etcd restored`, by which an operator says that etcd was restored from a backup (E8)."""

from __future__ import annotations

import io
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from rqdisco.backends.etcd.keys import EtcdKeys
from rqdisco.cli.app import App, run
from rqdisco.cli.etcd import begin_epoch
from rqdisco.cli.output import CommandOutput
from rqdisco.core.errors import Ownerless
from rqdisco.core.records import Node
from tests.support.any_daemon import WALL_US
from tests.support.command import Shell
from tests.support.daemon import result
from tests.support.etcd.daemon import PREFIX, Backend, Cluster, opened

A, B = Node(addr="10.0.0.1:4001"), Node(addr="10.0.0.2:4001")


def go(coroutine: Any) -> Any:
    return result(Deferred.fromCoroutine(coroutine))


def restored(operator: Backend, prefix: str = PREFIX) -> tuple[int, str]:
    """Run the command over the model; return its status and what it prints."""
    err = io.StringIO()
    nobody: Any = None
    app = App(
        client=nobody,
        url="",
        clock=operator.cluster.clock,
        jitter=lambda: 0.0,
        secret=operator.random.randbytes,
        output=CommandOutput(io.StringIO(), err),
        wall=lambda: WALL_US / 1e6,
        connect=nobody,
    )
    status = go(run(app, lambda app: begin_epoch(app, operator.client, EtcdKeys(prefix))))
    return status, err.getvalue()


def test_after_a_restore_ids_of_before_list_and_join_but_grant_nothing_and_new_ones_do() -> None:
    cluster = Cluster()
    before = opened(cluster, seed=1)
    used, unused = go(before.directory.create()).id, go(before.directory.create()).id
    go(before.directory.register(used, A, None))
    backup = cluster.model.save()
    go(before.directory.register(unused, A, None))
    cluster.model.restore(backup)
    status, text = restored(opened(cluster, seed=2))
    assert (status, text) == (
        0,
        "rqdisco: epoch 1795000000 begins; 2 IDs from before grant nothing; start the daemons\n",
    )
    after = opened(cluster, seed=3)
    assert [node.addr for node in go(after.directory.register(used, B, None)).listed] == [A.addr, B.addr]
    with pytest.raises(Ownerless):
        go(after.directory.register(unused, B, None))
    assert go(after.directory.register(go(after.directory.create()).id, B, None)).bootstrap == "granted"


def test_a_daemon_that_ran_through_a_restore_grants_nothing_until_it_is_restarted() -> None:
    cluster = Cluster()
    running = opened(cluster, seed=1)
    backup = cluster.model.save()
    new = [go(running.directory.create()).id for _ in range(3)]
    cluster.model.restore(backup)
    assert restored(opened(cluster, seed=2))[0] == 0
    with pytest.raises(Exception, match=r"went back|does not exist"):
        go(running.directory.register(new[0], A, None))
    assert running.went_back
    assert go(opened(cluster, seed=3).directory.create()).id


def test_a_prefix_without_a_store_is_named_and_nothing_is_created_there() -> None:
    cluster = Cluster()
    status, text = restored(opened(cluster), "/other/")
    assert (status, text) == (
        1, "rqdisco: etcd has no store at /other/v1/: set --etcd-prefix as for the daemons\n"
    )  # fmt: skip
    assert restored(opened(cluster), "/other/")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--yes"], "--etcd: at least one member of etcd is needed"),
        (["--etcd", "http://127.0.0.1:1"], "every daemon of the store must be stopped"),
        (["--etcd", "nonsense", "--yes"], "nonsense"),
    ],
)
def test_the_command_asks_for_members_and_for_confirmation(
    shell: Shell, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert shell("etcd", "restored", *arguments) == 2
    assert text in capsys.readouterr().err + shell.err.text


def test_the_command_takes_no_url_of_a_daemon(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell("etcd", "restored", "--help") == 0
    help_text = capsys.readouterr().out
    assert "--etcd-prefix" in help_text
    assert "--url" not in help_text
