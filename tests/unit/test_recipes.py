"""Flags for rqlited: right for its version, with notes on what flags cannot do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from rqdisco.core.dns_labels import from_escaped_labels
from rqdisco.recipes.flags import MODES, FlagsRequest, Mode, make_flags, usual_mode
from rqdisco.recipes.parsing import Unsupported

ID = "9af5306d-5842-851c-a00f-72fe57b0eb16"
URL = "http://rqdisco:4000"


def flags(mode: Mode, version: str, url: str = URL, **more: Any) -> dict[str, str]:
    """Return the flags and their values."""
    wanted = FlagsRequest(discovery_id=ID, version=version, mode=mode, url=url, **more)
    parts = [argument.partition("=") for argument in make_flags(wanted).arguments]
    return {flag: value for flag, _, value in parts}


def config(mode: Mode, version: str, *url: str, **more: Any) -> object:
    return json.loads(flags(mode, version, *url, **more)["-disco-config"])


def why_not(mode: Mode, version: str, **more: Any) -> str:
    with pytest.raises(Unsupported) as refused:
        flags(mode, version, **more)
    return str(refused.value)


@pytest.mark.parametrize("version", ["3.12", "3.14.0", "3", "v3.12.1"])
def test_the_first_versions_write_the_flags_without_a_dash(version: str) -> None:
    assert flags("legacy", version) == {"-disco": URL, "-discoid": ID}


@pytest.mark.parametrize("version", ["4.0", "4", "6.10.2", "6"])
def test_versions_up_to_6_get_the_service_and_the_id(version: str) -> None:
    assert flags("legacy", version, f"{URL}/") == {"-disco-url": URL, "-disco-id": ID}


@pytest.mark.parametrize("version", ["7.0", "7", "8.36.3", "10", "v10.2.7"])
def test_consul_kv_gets_the_id_as_key_and_the_address_without_a_scheme(version: str) -> None:
    assert flags("consul-kv", version) == {
        "-disco-mode": "consul-kv",
        "-disco-key": ID,
        "-disco-config": '{"address":"rqdisco:4000"}',
    }


@pytest.mark.parametrize(
    ("version", "url", "expected"),
    [
        ("8", "https://h", {"address": "h:443", "scheme": "https"}),
        ("8", "http://h", {"address": "h:80"}),
        ("7.0.0", "https://h:1", {"address": "h:1", "schema": "https"}),
        ("7.0.1", "https://h:1", {"address": "h:1", "scheme": "https"}),
        ("8", "http://[::1]:4000", {"address": "[::1]:4000"}),
        ("8", "http://[fe80::1%25eth0]:4000", {"address": "[fe80::1%eth0]:4000"}),
        (
            "8",
            "https://x:y@[fe80::1%eth0]",
            {"address": "[fe80::1%eth0]:443", "scheme": "https", "basic_auth": {"username": "x", "password": "y"}},
        ),
        ("8", "http://me:p%40w@h:1", {"address": "h:1", "basic_auth": {"username": "me", "password": "p@w"}}),
        ("7.15", "http://me:a$b@h:1", {"address": "h:1", "basic_auth": {"username": "me", "password": "a$b"}}),
    ],
)
def test_consul_kv_gets_everything_in_the_url(version: str, url: str, expected: object) -> None:
    assert config("consul-kv", version, url) == expected


@pytest.mark.parametrize("zone", ["%25eth0", "%eth0"])
def test_legacy_gets_the_zone_of_an_address_as_in_a_url(zone: str) -> None:
    assert flags("legacy", "6", f"http://[fe80::1{zone}]:4000/")["-disco-url"] == "http://[fe80::1%25eth0]:4000"


@pytest.mark.parametrize(
    ("mode", "version", "expected"),
    [
        ("dns", "7.2", {"name": f"{ID}.disco.example."}),
        ("dns", "8", {"name": f"{ID}.disco.example."}),
        ("dns-srv", "7.21", {"name": f"{ID}.disco.example.", "service": "rqlite-http"}),
        ("dns-srv", "8.0", {"name": f"{ID}.disco.example.", "service": "rqlite-raft"}),
        ("dns-srv", "10", {"name": f"{ID}.disco.example.", "service": "rqlite-raft"}),
    ],
)
def test_dns_modes_use_the_port_that_the_version_joins_by_and_end_names_with_a_dot(
    mode: Mode, version: str, expected: object
) -> None:
    assert config(mode, version, zone="Disco.Example.") == expected


def test_dns_modes_give_the_number_of_nodes_that_form_the_cluster() -> None:
    assert flags("dns", "8", zone="z")["-bootstrap-expect"] == "3"
    assert flags("dns-srv", "8", zone="z", expect=5)["-bootstrap-expect"] == "5"


@pytest.mark.parametrize("version", ["8.14.1", "8.14", "8", "9", "10.2.7"])
@pytest.mark.parametrize("mode", ["dns", "dns-srv"])
def test_a_read_replica_by_dns_expects_no_nodes_because_rqlited_would_not_start(mode: Mode, version: str) -> None:
    made = flags(mode, version, zone="z", replica=True)
    assert set(made) == {"-disco-mode", "-disco-config", "-raft-non-voter"}
    assert made["-disco-config"] == flags(mode, version, zone="z")["-disco-config"]


@pytest.mark.parametrize(
    ("mode", "version"),
    [("legacy", "5.1.0"), ("legacy", "5"), ("legacy", "6.10.2"), ("consul-kv", "7.0.0"), ("consul-kv", "10")],
)
def test_a_read_replica_gets_the_flags_of_any_node_and_the_non_voter_flag(mode: Mode, version: str) -> None:
    assert flags(mode, version, replica=True) == {**flags(mode, version), "-raft-non-voter": ""}


def test_the_nodes_port_can_be_given_in_dns_mode() -> None:
    assert config("dns", "8", zone="z", port=5002) == {"name": f"{ID}.z.", "port": 5002}


def test_an_id_that_is_no_dns_name_is_looked_up_in_its_escaped_form() -> None:
    wanted = FlagsRequest(discovery_id="Main.-x", version="8", mode="dns", url=URL, zone="z")
    (name,) = json.loads(make_flags(wanted).arguments[1].partition("=")[2]).values()
    assert from_escaped_labels(name.removesuffix(".z.")) == "Main.-x"


@pytest.mark.parametrize(
    ("mode", "version", "more", "words"),
    [
        ("legacy", "7", {}, "legacy mode is for rqlite 3.12 to 6.10"),
        ("legacy", "3.11", {}, "has no discovery: use 3.12 or later"),
        ("consul-kv", "6.10", {}, "has no consul-kv mode: use legacy"),
        ("dns", "7.1", {"zone": "z"}, "use 7.2 or later"),
        ("dns-srv", "6", {"zone": "z"}, "use 7.2 or later"),
        ("dns", "8", {}, "needs the DNS zone"),
        ("dns", "8", {"zone": "a..b"}, "not a DNS zone"),
        ("dns", "8", {"zone": "-a"}, "not a DNS zone"),
        ("dns", "8", {"zone": ".".join(["a" * 60] * 4)}, "use a name of at most 110 characters"),
        ("dns", "8", {"zone": "z", "port": 0}, "not a port"),
        ("dns", "8", {"zone": "z", "expect": 0}, "at least one node"),
        ("dns-srv", "8", {"zone": "z", "port": 1}, "port from the SRV record"),
        ("consul-kv", "8", {"expect": 3}, "consul-kv takes no -bootstrap-expect"),
        ("legacy", "6", {"expect": 3}, "legacy takes no -bootstrap-expect"),
        ("consul-kv", "8", {"zone": "z"}, "takes no DNS zone"),
        ("consul-kv", "8", {"port": 1}, "takes no DNS zone and no port"),
        ("consul-kv", "8", {"url": "unix:/x"}, "UNIX socket"),
        ("legacy", "6", {"url": "ftp://h"}, "must be http://HOST:PORT"),
        ("legacy", "6", {"url": "http://h:x"}, "not a URL"),
        ("legacy", "6", {"url": "http://h/a b"}, "white space"),
        ("legacy", "6", {"url": "http://[fe80::1%25]:4000"}, "the name of a network interface"),
        ("consul-kv", "8", {"url": "http://h/prefix"}, "remove the path"),
        ("consul-kv", "7.4", {"url": "http://httpd:4000"}, "start with http"),
        ("consul-kv", "7.16", {"url": "http://u:a%24b@h"}, "expand a $"),
        ("consul-kv", "eight", {}, "not a version"),
        ("legacy", "5.0.1", {"replica": True}, "has no read replicas: use 5.1 or later"),
        ("legacy", "3.12", {"replica": True}, "has no read replicas: use 5.1 or later"),
        ("dns", "7.21", {"zone": "z", "replica": True}, "has no read replicas in dns mode: use 8.14.1 or later"),
        ("dns-srv", "8.13", {"zone": "z", "replica": True}, "has no read replicas in dns-srv mode"),
        ("dns-srv", "8.14.0", {"zone": "z", "replica": True}, "has no read replicas in dns-srv mode"),
        ("dns", "8", {"zone": "z", "replica": True, "expect": 3}, "a read replica takes no -bootstrap-expect"),
    ],
)
def test_a_combination_that_rqlited_does_not_support_is_refused_with_a_reason(
    mode: Mode, version: str, more: dict[str, object], words: str
) -> None:
    assert words in why_not(mode, version, **more)


@pytest.mark.parametrize("mode", MODES)
def test_an_invalid_id_is_refused(mode: Mode) -> None:
    with pytest.raises(Unsupported, match="not a discovery ID"):
        make_flags(FlagsRequest(discovery_id="", version="8", mode=mode, url=URL))


def notes(mode: Mode, version: str, url: str = URL, **more: Any) -> str:
    """Return all notes as one text."""
    return " ".join(make_flags(FlagsRequest(discovery_id=ID, version=version, mode=mode, url=url, **more)).notes)


def test_notes_mention_what_flags_cannot_do() -> None:
    assert "-http-adv-addr" in notes("legacy", "6")
    assert "-httpadv" in notes("legacy", "3")
    assert "other machines cannot reach the service at 127.0.0.1" in notes("consul-kv", "8", "http://127.0.0.1:4000")
    assert "-node-id" in notes("consul-kv", "8")
    assert "--raft-addr" in notes("dns-srv", "8", zone="z")
    assert "--raft-addr" not in notes("dns-srv", "7.5", zone="z")
    assert "cannot use IPv6" in notes("dns", "7.5", zone="z")
    assert "4001" in notes("dns", "7.5", zone="z")


def test_notes_say_how_nodes_send_a_token_unless_the_url_has_one() -> None:
    assert "if the service requires tokens, set CONSUL_HTTP_TOKEN" in notes("consul-kv", "8")
    assert "if the service requires tokens, print the flags with --url http://x:TOKEN@HOST:PORT" in notes("legacy", "6")
    cases: list[tuple[Mode, str]] = [("consul-kv", "8"), ("legacy", "6")]
    for mode, version in cases:
        assert "tokens" not in notes(mode, version, "http://x:secret@disco:4000")
        assert "tokens" not in notes(mode, version, is_complete=True)
    assert "tokens" not in notes("dns-srv", "8", zone="z")


@pytest.mark.parametrize(
    ("version", "mode"), [("3.12", "legacy"), ("6", "legacy"), ("7.0.0", "consul-kv"), ("10", "consul-kv")]
)
def test_a_version_has_a_usual_mode(version: str, mode: Mode) -> None:
    assert usual_mode(version) == mode
    with pytest.raises(Unsupported, match="not a version"):
        usual_mode("new")


def test_notes_say_how_a_named_id_is_created_unless_it_exists() -> None:
    named = FlagsRequest(discovery_id="orders", version="8", mode="consul-kv", url=URL)
    (note,) = [each for each in make_flags(named).notes if "create" in each]
    assert note.startswith(
        "if several daemons replicate to each other, create the ID first: `rqdisco create --name orders`"
    )
    assert not [each for each in make_flags(replace(named, exists=True)).notes if "create" in each]
    legacy = replace(named, version="6", mode="legacy")
    assert "create the ID first: `rqdisco create --name orders`" in make_flags(legacy).notes
    assert "rqdisco create" not in notes("consul-kv", "8")


def test_notes_explain_how_a_private_authority_is_trusted() -> None:
    own = "https://h"
    assert '"tls_config":{"ca_file":"/PATH"}' in notes("consul-kv", "8", own)
    assert '"tls_config":{"ca_file":"/PATH"}' in notes("consul-kv", "7.13.2", own)
    assert '"tls_config":{"ca_pem":"BASE64"}' in notes("consul-kv", "7.13.1", own)
    assert "rqlited before 7.13.2 ignores ca_file" in notes("consul-kv", "7.13.1", own)
    assert "SSL_CERT_FILE" in notes("legacy", "6", own)
    versions: list[tuple[Mode, str]] = [("consul-kv", "8"), ("consul-kv", "7.0.0"), ("legacy", "6")]
    for mode, version in versions:
        assert "CAs" in notes(mode, version, own)
        assert "CAs" not in notes(mode, version, "http://h")


def test_notes_mention_the_other_name_of_the_scheme_for_incomplete_versions() -> None:
    assert '7.0.0 calls "scheme" "schema"' in notes("consul-kv", "7.0", "https://h")
    for version, url in (("7.0.0", "https://h"), ("7.0.1", "https://h"), ("7.1", "https://h"), ("7.0", "http://h")):
        assert "schema" not in notes("consul-kv", version, url)


def test_notes_mention_when_a_read_replica_may_start() -> None:
    assert "a replica that is told to bootstrap does so" in notes("legacy", "6", replica=True)
    assert "a replica that wins the claim bootstraps" in notes("consul-kv", "8.13", replica=True)
    assert "waits for a leader" in notes("consul-kv", "8.14", replica=True)
    by_dns = notes("dns-srv", "8", zone="z", replica=True)
    assert "do not register a replica" in by_dns
    assert "-bootstrap-expect" not in by_dns
    assert "rqdisco register" not in by_dns
    modes: list[tuple[Mode, str, dict[str, str]]] = [
        ("legacy", "6", {}),
        ("consul-kv", "8", {}),
        ("dns", "8", {"zone": "z"}),
    ]
    for mode, version, more in modes:
        assert "replica" not in notes(mode, version, **more)
