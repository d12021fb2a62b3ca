"""The options, from the command line and the environment."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from rqdisco.dns.zone import Zone
from rqdisco.security.certificates import Files
from rqdisco.service.config import Bounds, Config
from rqdisco.service.option_table import OPTIONS
from rqdisco.service.options import DaemonOptions
from rqdisco.service.settings import resolve, values_of


def parse(*arguments: str, **environment: str) -> Config:
    options = DaemonOptions(environment)
    options.parseOptions(list(arguments))
    return options.config


def test_the_defaults_are_loopback_and_a_state_directory_here() -> None:
    config = parse()
    assert config.listen == ("tcp:4000:interface=127.0.0.1:backlog=1000",)
    assert config.data_dir == Path.cwd() / "rqdisco-data"
    assert (config.limits.retry_window_ms, config.limits.max_ids, config.limits.max_nodes) == (30_000, None, 1000)
    assert (config.max_body, config.snapshot_every, config.strict_addresses) == (16384, 300.0, False)
    assert config.limits.create_named
    assert config.unused_days is None
    assert config.hosts == ()
    assert config.trusted_proxies == ()
    assert config.idle_timeout == 75.0


def test_systemds_state_directory_is_the_default_where_there_is_one() -> None:
    assert parse(STATE_DIRECTORY="/var/lib/rqdisco:/var/lib/other").data_dir == Path("/var/lib/rqdisco")
    assert parse("--data-dir", "/x", STATE_DIRECTORY="/y").data_dir == Path("/x")


def test_every_option_can_be_given_on_the_command_line() -> None:
    config = parse(
        "--listen=tcp:1",
        "--listen",
        "unix:/x",
        "--host=Disco.Example.",
        "--host",
        "[FD00:0::1]",
        "--data-dir=/d",
        "--retry-window=0.5",
        "--strict-addresses",
        "--max-ids=1",
        "--expire-unused=30",
        "--max-nodes=2",
        "--max-body=100",
        "--snapshot-every=9",
        "--create-rate=0.5",
        "--client-rate=0",
        "--max-connections=7",
        "--max-client-connections=6",
        "--disk-reserve=5k",
        "--kv-create=no",
        "--operator-socket=/o",
        "--audit=/a",
        "--metrics-listen=tcp:2",
        "--metrics-listen=unix:/m",
        "--dns=127.0.0.1:53",
        "--dns",
        "[::1]:0",
        "--dns-zone=Disco.Example.",
        "--dns-aliases=a,B:http c",
        "--dns-nameserver=NS1.example.",
        "--dns-rate=0",
        "--idle-timeout=620",
    )
    assert config.idle_timeout == 620
    assert config.listen == ("tcp:1", "unix:/x")
    assert config.hosts == ("disco.example", "fd00::1")
    assert (config.limits.retry_window_ms, config.limits.max_ids, config.limits.max_nodes) == (500, 1, 2)
    assert config.unused_days == 30
    assert (config.data_dir, config.max_body, config.snapshot_every) == (Path("/d"), 100, 9.0)
    assert config.strict_addresses
    assert not config.limits.create_named
    assert config.bounds == Bounds(create_rate=0.5, client_rate=0, connections=7, client_connections=6)
    assert config.disk_reserve == 5120
    assert config.operator_socket == Path("/o")
    assert (config.metrics_listen, config.audit) == (("tcp:2", "unix:/m"), Path("/a"))
    assert config.dns is not None
    assert config.dns.addresses == (("127.0.0.1", 53), ("::1", 0))
    assert config.dns.zone == Zone(
        "disco.example",
        {"rqlite-raft": "raft", "rqlite-http": "http", "a": "raft", "b": "http", "c": "raft"},
    )
    assert (config.dns.nameserver, config.dns.rate) == ("ns1.example", 0.0)


def test_tokens_or_open_are_never_a_default() -> None:
    assert (parse().tokens, parse().is_open) == (None, False)
    assert parse("--tokens=/t").tokens == Path("/t")
    assert parse("--open").is_open
    config = parse(RQDISCO_TOKENS="/e", RQDISCO_DNS="127.0.0.1:53", RQDISCO_DNS_ZONE="x", RQDISCO_DNS_OPEN="yes")
    assert (config.tokens, config.dns is None) == (Path("/e"), False)
    assert parse(RQDISCO_OPEN="yes").is_open


@pytest.mark.parametrize("allowed", ["--open", "--dns-open"])
def test_dns_for_other_hosts_must_be_confirmed(allowed: str) -> None:
    assert parse("--dns=127.0.0.1:53", "--dns=[::1]:53", "--dns-zone=x").dns is not None
    assert parse("--dns=192.0.2.5:53", "--dns-zone=x", allowed).dns is not None


PEERS = ("--peer-listen=tcp:1", "--advertise=https://a:1", "--peer-keys=/keys")


def test_peers_have_separate_tls_options() -> None:
    plain, full = parse(*PEERS).peers, parse(*PEERS, "--peer-ca=/a", "--peer-cert=/c", "--peer-key=/k").peers
    assert plain is not None
    assert full is not None
    assert plain.tls == Files()
    assert full.tls == Files(key=Path("/k"), certificate=Path("/c"), authorities=Path("/a"))
    both = parse(*PEERS, RQDISCO_PEER_CERT="/c").peers
    assert both is not None
    assert both.tls == Files(key=Path("/c"), certificate=Path("/c"))


def test_there_is_no_name_server_and_no_operator_socket_by_default() -> None:
    assert parse().dns is None
    assert parse().operator_socket is None
    assert parse(RUNTIME_DIRECTORY="/run/rqdisco").operator_socket == Path("/run/rqdisco/operator.sock")
    assert parse("--operator-socket=off", RUNTIME_DIRECTORY="/run/rqdisco").operator_socket is None


def test_the_usual_names_of_rqlites_services_are_aliases_by_default() -> None:
    dns = parse("--dns=127.0.0.1:53", "--dns-zone=x").dns
    assert dns is not None
    assert set(dns.zone.services) == {"rqlite-raft", "rqlite-http", "rqlite", "raft", "rqlite-svc"}
    assert dns.rate == 1000.0


ENVIRONMENT = {
    "RQDISCO_LISTEN": "tcp:1 tcp:2",
    "RQDISCO_HOST": "a.example 10.0.0.9",
    "RQDISCO_DATA_DIR": "/e",
    "RQDISCO_RETRY_WINDOW": "0",
    "RQDISCO_STRICT_ADDRESSES": "yes",
    "RQDISCO_MAX_IDS": "3",
    "RQDISCO_MAX_NODES": "4",
    "RQDISCO_MAX_BODY": "500",
    "RQDISCO_SNAPSHOT_EVERY": "60",
    "RQDISCO_KV_CREATE": "no",
    "RQDISCO_OPERATOR_SOCKET": "/s",
    "RQDISCO_METRICS_LISTEN": "tcp:3 tcp:4",
    "RQDISCO_AUDIT": "/b",
    "RQDISCO_DNS": "127.0.0.1:53 [::1]:53",
    "RQDISCO_DNS_ZONE": "x",
    "RQDISCO_DNS_ALIASES": "a",
    "RQDISCO_DNS_NAMESERVER": "ns1.x",
    "RQDISCO_DNS_RATE": "5",
    "RQDISCO_IDLE_TIMEOUT": "620",
}


def test_every_option_can_be_given_in_the_environment() -> None:
    config = parse(**ENVIRONMENT)
    assert (config.listen, config.hosts) == (("tcp:1", "tcp:2"), ("a.example", "10.0.0.9"))
    assert (config.limits.retry_window_ms, config.limits.max_ids, config.limits.max_nodes) == (0, 3, 4)
    assert (config.data_dir, config.max_body, config.snapshot_every) == (Path("/e"), 500, 60.0)
    assert (config.strict_addresses, config.limits.create_named, config.operator_socket) == (True, False, Path("/s"))
    assert (config.metrics_listen, config.audit) == (("tcp:3", "tcp:4"), Path("/b"))
    assert config.dns is not None
    assert (len(config.dns.addresses), config.dns.zone.name, config.dns.nameserver) == (2, "x", "ns1.x")
    assert (len(config.dns.zone.services), config.dns.rate) == (3, 5.0)
    assert config.idle_timeout == 620


def test_no_option_is_left_out_of_the_environment() -> None:
    values = values_of(resolve({}, {option.variable: "x" for option in OPTIONS.values()}, {}))
    assert values == {name: ("x",) if option.kind == "list" else "x" for name, option in OPTIONS.items()}


def test_the_command_line_wins_over_the_environment() -> None:
    config = parse("--listen=tcp:9", "--max-nodes", "7", "--data-dir", "/c", **ENVIRONMENT)
    assert (config.listen, config.limits.max_nodes, config.data_dir) == (("tcp:9",), 7, Path("/c"))


def test_short_options_win_over_the_environment_too_and_a_value_is_not_mistaken_for_an_option() -> None:
    assert parse("--max-n", "7", RQDISCO_MAX_NODES="4").limits.max_nodes == 7
    assert parse("--data-dir", "max-nodes", RQDISCO_MAX_NODES="4").limits.max_nodes == 4


def test_an_empty_variable_is_not_set() -> None:
    assert parse(**dict.fromkeys(ENVIRONMENT, "")) == parse()


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--max-nodes=x"], {}),
        (["--max-nodes=0"], {}),
        (["--max-nodes=10000000000000"], {}),
        (["--max-ids=-1"], {}),
        (["--expire-unused=0"], {}),
        (["--expire-unused=never"], {}),
        (["--max-body=1"], {}),
        (["--retry-window=-1"], {}),
        (["--retry-window=nan"], {}),
        (["--snapshot-every=0"], {}),
        (["--create-rate=-1"], {}),
        (["--client-rate=x"], {}),
        (["--max-connections=0"], {}),
        (["--max-client-connections=1.5"], {}),
        (["--disk-reserve=1%"], {}),
        (["--disk-reserve=-1"], {}),
        (["--disk-reserve=999999G"], {}),
        (["--unknown"], {}),
        (["stray"], {}),
        (["--dns=127.0.0.1:53"], {}),
        (["--dns-zone=x"], {}),
        (["--dns=127.0.0.1:53", "--dns-zone=x", "--dns-aliases=:http"], {}),
        (["--dns=localhost:53", "--dns-zone=x"], {}),
        (["--dns=127.0.0.1", "--dns-zone=x"], {}),
        (["--dns=127.0.0.1:70000", "--dns-zone=x"], {}),
        (["--dns=127.0.0.1:53", "--dns-zone=a..b"], {}),
        (["--dns=127.0.0.1:53", "--dns-zone=x", "--dns-aliases=a:b"], {}),
        (["--dns=127.0.0.1:53", "--dns-zone=x", "--dns-aliases=a.b"], {}),
        (["--dns=127.0.0.1:53", "--dns-zone=x", "--dns-nameserver=-"], {}),
        (["--dns=127.0.0.1:53", "--dns-zone=x", "--dns-rate=-1"], {}),
        (["--kv-create=maybe"], {}),
        (["--host=disco.example:4000"], {}),
        (["--host=*.example"], {}),
        (["--host=http://disco.example"], {}),
        ([], {"RQDISCO_HOST": "disco.example, other.example"}),
        (["--tokens=/t", "--open"], {}),
        (["--tokens=/t"], {"RQDISCO_OPEN": "yes"}),
        (["--dns=127.0.0.1:53", "--dns-zone=x", "--tokens=/t"], {}),
        (["--dns=127.0.0.1:53", "--dns=0.0.0.0:53", "--dns-zone=x"], {}),
        (["--dns=[::]:53", "--dns-zone=x"], {}),
        ([], {"RQDISCO_OPEN": "perhaps"}),
        (["--peer-ca=/a"], {}),
        ([*PEERS, "--peer-key=/k"], {}),
        ([], {"RQDISCO_MAX_NODES": "many"}),
        ([], {"RQDISCO_STRICT_ADDRESSES": "perhaps"}),
    ],
)
def test_a_bad_option_ends_the_process_with_64_and_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], environment: dict[str, str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(*arguments, **environment)
    assert ended.value.code == 64
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("rqdisco: ")


def test_nothing_is_probed_unless_interval_and_networks_are_given() -> None:
    assert parse().probing is None
    probing = parse("--probe=15", "--probe-allow=10.0.0.0/8", "--probe-allow", "fd00::/8").probing
    assert probing is not None
    assert (probing.interval, probing.rate) == (15.0, 100.0)
    assert list(map(str, probing.allowed)) == ["10.0.0.0/8", "fd00::/8"]
    probing = parse(RQDISCO_PROBE="30", RQDISCO_PROBE_ALLOW="10.1.2.3 127.0.0.0/8", RQDISCO_PROBE_RATE="7.5").probing
    assert probing is not None
    assert (probing.interval, probing.rate) == (30.0, 7.5)
    assert list(map(str, probing.allowed)) == ["10.1.2.3/32", "127.0.0.0/8"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--probe=15",), "requires --probe-allow"),
        (("--probe-allow=10.0.0.0/8",), "requires --probe"),
        (("--probe=0.5", "--probe-allow=10.0.0.0/8"), "not between"),
        (("--probe=x", "--probe-allow=10.0.0.0/8"), "not a number"),
        (("--probe=15", "--probe-allow=10.0.0.1/8"), "host bits"),
        (("--probe=15", "--probe-allow=example.org"), "probe-allow"),
        (("--probe=15", "--probe-allow=::ffff:10.0.0.0/104"), "write it as an IPv4 address"),
        (("--probe=15", "--probe-allow=10.0.0.0/8", "--probe-rate=0"), "not between"),
    ],
)
def test_meaningless_probe_options_are_refused(
    arguments: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        parse(*arguments)
    assert refused.value.code == 64
    assert why in capsys.readouterr().err


def test_trusted_proxies_are_networks_or_single_addresses() -> None:
    networks = [ipaddress.ip_network(text) for text in ("10.0.0.0/28", "192.0.2.1/32", "2001:db8::/64")]
    assert parse("--trusted-proxy=10.0.0.0/28", "--trusted-proxy", "192.0.2.1").trusted_proxies == tuple(networks[:2])
    assert parse(RQDISCO_TRUSTED_PROXY="10.0.0.0/28 192.0.2.1 2001:db8::/64").trusted_proxies == tuple(networks)
    assert parse("--trusted-proxy=192.0.2.1", RQDISCO_TRUSTED_PROXY="10.0.0.0/28").trusted_proxies == (networks[1],)


@pytest.mark.parametrize(
    ("cidr", "why"),
    [
        ("10.0.0.1/28", "host bits"),
        ("nginx", "trusted-proxy"),
        ("::ffff:10.0.0.0/104", "write it as an IPv4 address"),
        ("0.0.0.0/0", "each client could claim to be any other"),
        ("::/0", "each client could claim to be any other"),
    ],
)
def test_a_network_that_cannot_be_trusted_is_refused(cidr: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(f"--trusted-proxy={cidr}")
    assert end.value.code == 64
    assert why in capsys.readouterr().err
