"""Tokens: the content of their file, what they allow, and how the file is edited."""

from __future__ import annotations

import hashlib
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from rqdisco.core.errors import NotAllowed, NotAuthenticated, TokensUnusable
from rqdisco.security.token_file import edit_tokens, read_tokens
from rqdisco.security.tokens import (
    HEADER,
    SCOPES,
    TOKEN_BYTES,
    Access,
    BadTokens,
    Right,
    TokenRing,
    describe,
    make_token,
    parse_tokens,
    with_token,
    without_token,
)

ID = "9af5306d-5842-851c-a00f-72fe57b0eb16"
DIGEST = "sha256:" + hashlib.sha256(b"secret").hexdigest()


def test_a_token_has_160_random_bits_and_needs_quoting_nowhere() -> None:
    assert TOKEN_BYTES * 8 >= 128
    made = {make_token(Random(seed).randbytes) for seed in range(100)}
    assert len(made) == 100
    assert all(token.startswith("rqd_") and token[4:].isalnum() and len(token) == 36 for token in made)


def test_a_token_file_has_digests_and_never_a_token() -> None:
    content = with_token(b"", describe("ops", ["admin"], "secret"))
    assert content.startswith(HEADER.encode())
    assert b"secret" not in content
    assert parse_tokens(content).find(b"secret") == describe("ops", ["admin"], "secret")


def test_a_written_token_file_reads_back_equal() -> None:
    tokens = [
        describe("a", ["read"], "1"),
        describe("b", ["write", "read"], "2", ID),
        describe("c", ["mint", "read", "write", "admin"], "3"),
    ]
    content = b""
    for token in tokens:
        content = with_token(content, token)
    assert list(parse_tokens(content).tokens) == tokens


def test_a_token_is_found_by_all_of_it_and_no_other() -> None:
    ring = TokenRing([describe(str(number), ["read"], f"secret {number}") for number in range(100)])
    for number in range(100):
        found = ring.find(f"secret {number}".encode())
        assert found is not None
        assert found.name == str(number)
    for guess in (b"", b"secret", b"secret 1 ", b"SECRET 1", hashlib.sha256(b"secret 1").digest()):
        assert ring.find(guess) is None


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("right", ["known", *SCOPES])
def test_each_scope_is_a_separate_right_and_admin_includes_all(scope: str, right: Right) -> None:
    access = Access(TokenRing([describe("x", [scope], "secret")]))
    if scope in (right, "admin") or right == "known":
        assert access.admit([b"secret"], right, ID).name == "x"
    else:
        with pytest.raises(NotAllowed) as refused:
            access.admit([b"secret"], right, ID)
        assert refused.value.token == "x"
    with pytest.raises(NotAuthenticated):
        access.admit([b"wrong"], right, ID)
    with pytest.raises(NotAuthenticated):
        access.admit([], right, ID)


def test_a_bound_token_is_for_its_id_and_case_counts() -> None:
    token = describe("x", ["read", "write"], "secret", "Orders")
    assert token.may("read", "Orders")
    assert token.may("write", "Orders")
    for other in ("orders", "Orders.", "", None):
        assert not token.may("read", other)


def test_the_first_known_token_of_a_request_counts() -> None:
    access = Access(TokenRing([describe("x", ["read"], "1"), describe("y", ["write"], "2")]))
    assert access.admit([b"for a proxy", b"2", b"1"], "write").name == "y"
    with pytest.raises(NotAllowed):
        access.admit([b"1", b"2"], "write")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ops admin", "not NAME SCOPES"),
        ("ops admin secret", "the digest is not"),
        (f"ops admin {DIGEST[:-1]}", "the digest is not"),
        (f"ops admin {DIGEST.upper()}", "the digest is not"),
        (f"o/ps admin {DIGEST}", "the name is not"),
        (f"ops admins {DIGEST}", "scopes must be"),
        (f"ops read, {DIGEST}", "scopes must be"),
        (f"ops read {DIGEST} {ID}", "only id=ID may follow"),
        (f"ops read {DIGEST} id=a/b", "not a discovery ID"),
        (f"ops read {DIGEST} id=", "not a discovery ID"),
        (f"ops mint {DIGEST} id={ID}", "cannot be bound"),
        (f"ops read,admin {DIGEST} id={ID}", "cannot be bound"),
        (f"ops read {DIGEST} id={ID} more", "not NAME SCOPES"),
    ],
)
def test_an_invalid_line_is_named_by_its_number_and_not_repeated(line: str, why: str) -> None:
    with pytest.raises(BadTokens) as refused:
        parse_tokens(f"# comment\n\n{line}\n".encode())
    assert str(refused.value).startswith("line 3: ")
    assert why in str(refused.value)
    assert "secret" not in str(refused.value)


def test_two_tokens_of_one_name_or_one_digest_are_refused() -> None:
    for second in (f"ops read sha256:{'0' * 64}", f"other read {DIGEST}"):
        with pytest.raises(BadTokens, match="the same"):
            parse_tokens(f"ops admin {DIGEST}\n{second}\n".encode())
    with pytest.raises(BadTokens, match="token ops already exists"):
        with_token(f"ops admin {DIGEST}\n".encode(), describe("ops", ["read"], "other"))


def test_revoking_removes_one_line_and_leaves_all_others_unchanged() -> None:
    content = f"# mine\nops  admin {DIGEST}  # of ops\n\nbad read sha256:{'0' * 64}\n# end".encode()
    after = without_token(content, "bad")
    assert after == f"# mine\nops  admin {DIGEST}  # of ops\n\n# end".encode()
    assert with_token(after, describe("new", ["read"], "1")).startswith(after + b"\nnew read sha256:")
    with pytest.raises(BadTokens, match="token worse does not exist"):
        without_token(content, "worse")


def test_the_last_token_can_be_revoked_and_then_nobody_is_authorized(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    edit_tokens(file, lambda content: with_token(content, describe("ops", ["admin"], "secret")))
    edit_tokens(file, lambda content: without_token(content, "ops"))
    assert read_tokens(file).tokens == ()


def test_a_new_file_is_private_to_its_owner_and_an_old_one_keeps_its_mode_and_its_links(tmp_path: Path) -> None:
    file, link = tmp_path / "tokens", tmp_path / "link"
    link.symlink_to(file)
    edit_tokens(link, lambda content: with_token(content, describe("a", ["read"], "1")))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    edit_tokens(link, lambda content: with_token(content, describe("b", ["read"], "2")))
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert link.is_symlink()
    assert [token.name for token in read_tokens(file).tokens] == ["a", "b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "tokens"]


def test_a_failed_edit_leaves_the_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    edit_tokens(file, lambda content: with_token(content, describe("a", ["read"], "1")))
    before = file.read_bytes()
    with pytest.raises(BadTokens):
        edit_tokens(file, lambda content: b"nonsense")
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_concurrent_edits_all_take_effect(tmp_path: Path) -> None:
    file = tmp_path / "tokens"

    def add(number: int) -> None:
        edit_tokens(file, lambda content: with_token(content, describe(f"t{number}", ["read"], str(number))))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert {token.name for token in read_tokens(file).tokens} == {f"t{number}" for number in range(40)}


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(TokensUnusable, match=r"tokens: No such file or directory; create one with `rqdisco token new`"):
        read_tokens(tmp_path / "tokens")
    (tmp_path / "tokens").write_text("nonsense\n")
    with pytest.raises(TokensUnusable, match=r"tokens: line 1: "):
        read_tokens(tmp_path / "tokens")
