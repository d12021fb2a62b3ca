"""The options of the etcd backend, and what they exclude."""

from __future__ import annotations

from pathlib import Path

import pytest

from rqdisco.security.certificates import Files
from rqdisco.service.config import Config, EtcdConfig
from rqdisco.service.options import DaemonOptions

ETCD = "--etcd=http://e1:2379"


def parse(*arguments: str, **environment: str) -> Config:
    options = DaemonOptions(environment)
    options.parseOptions(list(arguments))
    return options.config


def etcd(*arguments: str, **environment: str) -> EtcdConfig:
    config = parse(*arguments, **environment).etcd
    assert config is not None
    return config


def error(capsys: pytest.CaptureFixture[str], *arguments: str, **environment: str) -> str:
    with pytest.raises(SystemExit) as refusal:
        parse(*arguments, **environment)
    assert refusal.value.code == 64
    return capsys.readouterr().err.removeprefix("rqdisco: ").removesuffix(" (see twistd rqdisco --help)\n")


def test_one_url_is_enough() -> None:
    assert etcd(ETCD) == EtcdConfig(
        endpoints=("http://e1:2379",),
        prefix="/rqdisco/",
        user=None,
        password_file=None,
        tls=Files(),
        wait=0.0,
        serve_stale=0.0,
    )


def test_without_etcd_there_is_no_such_configuration() -> None:
    assert parse().etcd is None


def test_every_option_can_be_given_on_the_command_line() -> None:
    config = etcd(
        "--etcd=https://e1:2379/",
        "--etcd=https://[::1]:2379",
        "--etcd=https://e1:2379",
        "--etcd-prefix=/disco/prod/",
        "--etcd-user=rqdisco",
        "--etcd-password-file=/p",
        "--etcd-ca=/ca",
        "--etcd-cert=/c",
        "--etcd-key=/k",
        "--wait-for-etcd=60",
        "--dns-serve-stale=3600",
        "--dns=127.0.0.1:53",
        "--dns-zone=disco.test",
    )
    assert config == EtcdConfig(
        endpoints=("https://e1:2379", "https://[::1]:2379"),
        prefix="/disco/prod/",
        user="rqdisco",
        password_file=Path("/p"),
        tls=Files(key=Path("/k"), certificate=Path("/c"), authorities=Path("/ca")),
        wait=60,
        serve_stale=3600,
    )


def test_every_option_can_be_set_in_the_environment() -> None:
    config = etcd(
        RQDISCO_ETCD="https://e1:2379 https://e2:2379",
        RQDISCO_ETCD_PREFIX="/x/",
        RQDISCO_ETCD_USER="u",
        RQDISCO_ETCD_PASSWORD_FILE="/p",
        RQDISCO_ETCD_CERT="/c",
        RQDISCO_WAIT_FOR_ETCD="5",
        RQDISCO_DNS_SERVE_STALE="6",
        RQDISCO_DNS="127.0.0.1:53",
        RQDISCO_DNS_ZONE="disco.test",
    )
    assert config.endpoints == ("https://e1:2379", "https://e2:2379")
    assert (config.prefix, config.user, config.password_file) == ("/x/", "u", Path("/p"))
    assert config.tls == Files(key=Path("/c"), certificate=Path("/c"))
    assert (config.wait, config.serve_stale) == (5, 6)


def test_a_stateless_daemon_has_a_directory_only_where_one_is_given() -> None:
    assert parse(ETCD).data_dir is None
    assert parse(ETCD, "--data-dir=/d").data_dir == Path("/d")
    assert parse(ETCD, STATE_DIRECTORY="/s:/t").data_dir == Path("/s")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--etcd=e1:2379"], "etcd: 'e1:2379' is not http://HOST:PORT"),
        (["--etcd=https://e1"], "etcd: 'https://e1' is not http://HOST:PORT"),
        (["--etcd=https://u@e1:2379"], "etcd: 'https://u@e1:2379' is not http://HOST:PORT"),
        ([ETCD, "--peer=http://p:1"], "peer: cannot be combined with --etcd, whose daemons need no peers"),
        ([ETCD, "--advertise=http://p:1"], "advertise: cannot be combined with --etcd, whose daemons need no peers"),
        ([ETCD, "--peer-keys=/k"], "peer-keys: cannot be combined with --etcd, whose daemons need no peers"),
        (
            [ETCD, "--snapshot-every=9"],
            "snapshot-every: cannot be combined with --etcd, because etcd stores the records",
        ),
        ([ETCD, "--disk-reserve=1G"], "disk-reserve: cannot be combined with --etcd, because etcd stores the records"),
        (
            [ETCD, "--grant-ack=required"],
            "grant-ack: cannot be combined with --etcd, whose daemons need no peers",
        ),
        ([ETCD, "--dns-serve-stale=1"], "dns-serve-stale: requires --dns, the address to answer on"),
        ([ETCD, "--etcd-user=u"], "etcd-user: requires --etcd-password-file"),
        ([ETCD, "--etcd-password-file=/p"], "etcd-password-file: requires --etcd-user"),
        ([ETCD, "--etcd-ca=/ca"], "etcd-ca: requires https, unlike http://e1:2379"),
        (["--etcd=https://e1:2379", "--etcd-key=/k"], "etcd-key: requires --etcd-cert"),
        (
            [ETCD, "--etcd-prefix=/x"],
            "etcd-prefix: '/x' must end with a slash and have at most 200 printable characters without spaces",
        ),
        ([ETCD, "--wait-for-etcd=-1"], "wait-for-etcd: -1 is not between 0 and 1e+12"),
        (["--etcd-user=u"], "etcd-user: requires --etcd"),
        (["--wait-for-etcd=1"], "wait-for-etcd: requires --etcd"),
        (["--dns-serve-stale=1"], "dns-serve-stale: requires --etcd"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_option(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert error(capsys, *arguments) == problem


def test_options_that_etcd_excludes_are_refused_from_the_environment_too(capsys: pytest.CaptureFixture[str]) -> None:
    problem = "peer-listen (RQDISCO_PEER_LISTEN): cannot be combined with --etcd, whose daemons need no peers"
    assert error(capsys, ETCD, RQDISCO_PEER_LISTEN="tcp:4001") == problem
