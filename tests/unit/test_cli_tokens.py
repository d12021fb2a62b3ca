"""Tokens on the command line: created, listed, revoked, and used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rqdisco.cli.main import _token
from rqdisco.client import DiscoveryClient
from rqdisco.client.urls import parse_url
from rqdisco.security.token_file import read_tokens
from rqdisco.security.tokens import Access, TokenRing, describe
from tests.support.command import Service, Shell
from tests.support.daemon import create_id

pytestmark = pytest.mark.usefixtures("each_backend")

ID = "9af5306d-5842-851c-a00f-72fe57b0eb16"


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "tokens")


def test_a_new_token_is_printed_once_and_only_its_digest_is_stored(file: str) -> None:
    shell = Shell(Service())
    assert shell("token", "new", "ops", "--scope", "admin", "--file", file) == 0
    (secret,) = shell.lines
    assert secret.startswith("rqd_")
    assert secret not in shell.messages
    assert secret not in Path(file).read_text()
    assert shell.messages.startswith(f"rqdisco: save this token, ops (admin): {file} stores only its digest; ")
    assert "a running daemon reads the file again within seconds" in shell.messages
    token = read_tokens(Path(file)).find(secret.encode())
    assert token is not None
    assert (token.name, token.scopes, token.id) == ("ops", frozenset({"admin"}), None)
    assert shell.service.asked == 0


def test_tokens_are_listed_and_revoked_by_name(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RQDISCO_TOKENS", file)
    shell = Shell(Service())
    assert shell("token", "new", "minter", "--scope", "mint", "--scope", "read") == 0
    assert shell("token", "new", "orders", "--id", ID) == 0
    assert shell("token", "list") == 0
    assert shell.lines == ["minter\tmint,read\t-", f"orders\tread,write\t{ID}"]
    assert shell("token", "revoke", "minter") == 0
    assert shell("token", "list") == 0
    assert shell.lines == [f"orders\tread,write\t{ID}"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["new", "taken"], 1, "token taken already exists"),
        (["new", "a b"], 1, "is not a valid name"),
        (["new", "x", "--scope", "mint", "--id", ID], 1, "cannot be bound"),
        (["new", "x", "--scope", "root"], 2, "'root' is not one of"),
        (["revoke", "unknown"], 1, "token unknown does not exist"),
    ],
)
def test_an_impossible_operation_is_reported_and_changes_nothing(
    file: str, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, words: str
) -> None:
    shell = Shell(Service())
    shell("token", "new", "taken", "--file", file)
    before = Path(file).read_bytes()
    assert shell("token", *arguments, "--file", file) == status
    assert words in shell.messages + capsys.readouterr().err
    assert Path(file).read_bytes() == before


def test_an_unusable_file_is_reported(tmp_path: Path) -> None:
    shell = Shell(Service())
    assert shell("token", "list", "--file", str(tmp_path / "none")) == 1
    assert "No such file" in shell.messages
    (tmp_path / "bad").write_text("nonsense\n")
    assert shell("token", "new", "x", "--file", str(tmp_path / "bad")) == 1
    assert "line 1" in shell.messages
    assert shell("token", "new", "x", "--file", str(tmp_path / "no" / "where")) == 1


def guarded() -> tuple[Service, str]:
    access = Access(TokenRing([describe("ops", ["admin"], "secret"), describe("reader", ["read"], "other")]))
    service = Service(access=access)
    return service, create_id(service.daemon)


def test_commands_send_the_token_and_say_how_to_set_it_if_it_is_missing() -> None:
    service, discovery_id = guarded()
    shell = Shell(service)
    assert shell("nodes", discovery_id) == 1
    assert shell.messages == "rqdisco: authentication required: set RQDISCO_TOKEN to a token of the service\n"
    assert shell("status", "--service") == 0
    assert shell.lines == ["service http://127.0.0.1:4000 is up for 0 s, version 0"]
    shell.token = "wrong"
    assert shell("leader", "set", discovery_id, "--id", "1", "--api-addr", "http://a:1", "--addr", "a:2") == 1
    assert (
        shell.messages == "rqdisco: ACL not found: the token is unknown: set RQDISCO_TOKEN to a token of the service\n"
    )
    shell.token = "other"
    assert shell("register", discovery_id, "a:1") == 1
    needed = "set RQDISCO_TOKEN to a token with the scope write, as `rqdisco token new --scope write` makes"
    assert shell.messages == f"rqdisco: token may not write {discovery_id}: {needed}\n"
    assert shell("leader", "set", discovery_id, "--id", "1", "--api-addr", "http://a:1", "--addr", "a:2") == 1
    assert shell.messages == f"rqdisco: Permission denied: the token lacks the scope write for this ID: {needed}\n"
    shell.token = "secret"
    assert shell("register", discovery_id, "a:1") == 0
    assert shell("export") == 0, "no socket is needed then"


def test_a_token_is_sent_beside_the_credentials_of_a_proxy() -> None:
    service, discovery_id = guarded()
    for url, token in (("http://x:secret@h", None), ("http://for:proxy@h", "secret"), ("http://h", " secret\n")):
        assert service.get(service.client(url, token=token).get(discovery_id)).disco_id == discovery_id


@pytest.mark.parametrize("token", ["", " ", "a b", "a\nb", "ü", "a\x7f"])
def test_an_invalid_token_is_neither_sent_nor_repeated(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="the token is empty or has invalid characters"):
        Service().client(token=token)


def test_the_token_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _token() is None
    monkeypatch.setenv("RQDISCO_TOKEN", "secret\n")
    assert _token() == "secret"


def test_no_output_has_a_token_in_it() -> None:
    target = parse_url("http://x:secret@h:4000")
    client: Any = DiscoveryClient(None, "http://x:secret@h", clock=None, token="secret")  # type: ignore[arg-type]
    for shown in (target, target.name, client, client._transport):
        assert "secret" not in f"{shown!r} {shown}"


@pytest.mark.parametrize(
    ("secret", "error"),
    [
        (None, "authentication required"),
        ("write", "token may not administer"),
    ],
)
@pytest.mark.parametrize("line", ["list", "peers", "export", "freeze x"])
def test_a_command_for_operators_names_the_scope_that_it_needs(secret: str | None, error: str, line: str) -> None:
    shell = Shell(Service(access=Access(TokenRing([describe("w", ["write"], "write")]))))
    shell.token = secret
    assert shell(*line.split()) == 1
    assert shell.messages == f"rqdisco: {error}: set RQDISCO_TOKEN to a token with the scope admin\n"
