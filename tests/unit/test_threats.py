"""The threat model of `docs/security.md`: that its tests exist, and those that belong nowhere
else.
"""

from __future__ import annotations

import ast
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqdisco.backends.gossip.transport.connections import read_keys
from rqdisco.cli.output import CommandOutput
from rqdisco.core.errors import TokensUnusable
from rqdisco.core.escaping import escape_untrusted
from rqdisco.security.file_modes import warn_of_loose_mode
from rqdisco.security.token_file import read_tokens
from rqdisco.telemetry.events import Event
from tests.support.trio import KEY
from tests.support.written_log import Log
from tests.unit.test_audit import Audited

ROOT = Path(__file__).parents[2]
NASTY = 'a\r\nINJECTED \x1b[2J\x9b2J\x7f\u202e\u2028\x00 \\ " b'


def defined(path: Path) -> set[str]:
    """Return the names of the tests in a file."""
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


def test_each_line_of_the_threat_model_names_an_existing_test() -> None:
    section = (ROOT / "docs" / "security.md").read_text().partition("## Threats")[2]
    rows = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| |")]
    assert len(rows) > 30
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row.rstrip(" |").rpartition(" | ")[2])
        assert named, f"no test is named: {row}"
        for file, test in named:
            assert test in defined(ROOT / file), f"{file} has no {test}"


def is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc"


@given(st.one_of(st.text(), st.just(NASTY)))
def test_external_text_stays_within_one_line_of_the_log_without_control_characters(text: str) -> None:
    for as_json in (True, False):
        log = Log(as_json=as_json)
        log.logger.warn("refused", why=text)
        log.logger.warn("not done: {why}", why=text)
        lines = log.paper.written.decode().split("\n")
        assert len(lines) == 3
        assert lines[2] == ""
        assert not any(map(is_control, "".join(lines)))


@pytest.mark.parametrize("where", ["id", "addr", "client", "why", "token", "request"])
def test_external_text_stays_within_one_line_of_the_audit_log(tmp_path: Path, where: str) -> None:
    audited = Audited(tmp_path / "audit")
    messages: dict[str, Any] = {"kind": "registration", "outcome": "refused", where: NASTY}
    audited.events.publish(Event(**messages))
    audited.soon()
    content = (tmp_path / "audit").read_bytes().decode()
    assert not any(map(is_control, content.replace("\n", "")))
    assert [line["event"] for line in audited.lines()] == ["start", "registration"]
    assert NASTY in audited.lines()[1].values(), "nothing of it is lost"


class Terminal:
    """A terminal that records its output."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.shown = ""

    def write(self, text: str) -> None:
        self.shown += text

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


def test_answers_of_a_foreign_service_move_no_cursor() -> None:
    terminal: Any = Terminal()
    output = CommandOutput(terminal, terminal)
    output.line(NASTY)
    output.lines([NASTY, "two\nlines\tand a tab"])
    output.message(NASTY)
    output.table(NASTY, ["addr"], [[NASTY]])
    own = re.sub(r"\x1b\[[0-9;]*m", "", terminal.shown)
    assert {each for each in own if is_control(each)} == {"\n"}
    assert "two\\nlines\\tand a tab\n" in own


def test_printable_text_stays_unchanged() -> None:
    for text in ("", "10.0.0.1:4001", "ünï 节点", "a b"):
        assert escape_untrusted(text) == text
    assert escape_untrusted("\n\x9b\u202e") == r"\n\x9b\u202e"


@pytest.mark.parametrize(
    ("mode", "messages"),
    [
        (0o600, None),
        (0o640, None),
        (0o400, None),
        (0o644, "file of {what} is readable by every user; set mode 600"),
        (0o620, "file of {what} is writable by other users; set mode 600"),
        (0o602, "file of {what} is writable by other users; set mode 600"),
    ],
)
def test_a_file_of_secrets_that_others_may_read_or_change_is_warned_of(
    tmp_path: Path, log: list[dict[str, Any]], mode: int, messages: str | None
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\n")
    file.chmod(mode)
    warn_of_loose_mode(file, "tokens")
    read_keys(file)
    assert [event["log_format"] for event in log] == [] if messages is None else [messages] * 2
    assert KEY not in str(log)


def test_a_missing_file_is_not_warned_of(tmp_path: Path, log: list[dict[str, Any]]) -> None:
    warn_of_loose_mode(tmp_path / "none", "tokens")
    assert log == []
    with pytest.raises(TokensUnusable):
        read_tokens(tmp_path / "none")


def test_secrets_are_compared_in_constant_time() -> None:
    """By hmac.compare_digest, and by nothing else."""
    for name, function in (("security/tokens", "find"), ("backends/gossip/transport/keyring", "is_sealed")):
        tree = ast.parse((ROOT / "rqdisco" / f"{name}.py").read_text())
        (found,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function
                    and "Key" not in ast.unparse(node.returns or ast.Constant(""))]  # fmt: skip
        text = ast.unparse(found)
        assert "hmac.compare_digest" in text
        compared = [ast.unparse(node) for node in ast.walk(found) if isinstance(node, ast.Compare)]
        assert compared == []
    for path in (ROOT / "rqdisco").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and any(isinstance(each, (ast.Eq, ast.NotEq)) for each in node.ops):
                sides = [getattr(each, "attr", getattr(each, "id", "")) for each in (node.left, *node.comparators)]
                assert not {"seal", "secret", "digest"} & set(sides), f"{path}: {ast.unparse(node)}"
