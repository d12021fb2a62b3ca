"""A daemon that refuses to start has bound no socket and written no file by then."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from twisted.internet.task import Clock

from rqdisco.core.errors import CannotStart, StateInUse
from rqdisco.service.options import DaemonOptions
from rqdisco.service.wiring.daemon import build_daemon
from tests.support.any_daemon import memory_system

KEYS = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"
PEERS = ("--peer-listen=tcp:0", "--advertise=http://a:1")


def build(*options: str) -> None:
    """Build a daemon. Its reactor is a mere clock, so one that listened or connected would fail."""
    parsed = DaemonOptions({})
    parsed.parseOptions(list(options))
    build_daemon(parsed.config, memory_system(Clock(), Random(0), wall_us=lambda: 0, fail=pytest.fail))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--listen=tcp:0"], "tcp:0: other machines can connect and no token is required"),
        (["--listen=tcp:0:interface=127.0.0.1", "--listen=tcp:0:interface=0.0.0.0"], "other machines can connect"),
        (["--listen=tcp6:0"], "other machines can connect"),
        (["--listen=tcp6:0:interface=\\:\\:"], "other machines can connect"),
        (["--listen=haproxy:tcp:0:interface=127.0.0.1"], "other machines can connect"),
        (["--listen=tcp:0:interface=192.0.2.1"], "other machines can connect"),
        (["--listen=nonsense:0"], "--listen nonsense:0: "),
        (["--tokens={here}/absent"], "{here}/absent: No such file or directory"),
        (["--metrics-listen=nonsense:0"], "--metrics-listen nonsense:0: "),
        (["--metrics-listen=ssl:0:privateKey={here}/absent"], "{here}/absent: No such file or directory"),
        ([*PEERS, "--peer-keys={here}/absent"], "{here}/absent: No such file or directory"),
        ([*PEERS, "--peer-keys={here}/bad"], "{here}/bad: "),
        ([*PEERS, "--peer-keys={here}/keys", "--peer-ca={here}/absent"], "{here}/absent: No such file or directory"),
        (["--peer-listen=nonsense:0", "--advertise=http://a:1", "--peer-keys={here}/keys"], "--peer-listen nonsense:0"),
        (["--etcd=http://e:1", "--listen=tcp:0"], "other machines can connect"),
        (["--etcd=http://e:1", "--etcd-user=u", "--etcd-password-file={here}/absent"], "{here}/absent: No such file"),
        (["--etcd=https://e:1", "--etcd-ca={here}/absent"], "{here}/absent: No such file or directory"),
    ],
)
def test_a_refusal_comes_before_any_socket_and_any_file(tmp_path: Path, options: list[str], why: str) -> None:
    (tmp_path / "keys").write_text(KEYS)
    (tmp_path / "keys").chmod(0o600)
    (tmp_path / "bad").write_text("?\n")
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(CannotStart) as refused:
        build(f"--data-dir={tmp_path}/state", *(each.format(here=tmp_path) for each in options))
    assert why.format(here=tmp_path) in str(refused.value)
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("second", [[], ["--etcd=http://e:1"]])
def test_two_daemons_do_not_share_a_directory_even_if_their_records_are_in_etcd(
    tmp_path: Path, second: list[str]
) -> None:
    build(f"--data-dir={tmp_path}/state", "--etcd=http://e:1")
    with pytest.raises(StateInUse, match="another rqdisco runs on this directory; stop it, or use another one"):
        build(f"--data-dir={tmp_path}/state", *second)
