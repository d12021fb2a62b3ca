"""The audit log of the running daemon, and its rotation."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Start
from tests.integration.test_systemd import needs
from tests.support.process import PATIENCE, Environment

pytestmark = pytest.mark.process
_SNIPPET = re.compile(r"^```\n(/var/log/rqdisco/audit.*?)^```$", re.MULTILINE | re.DOTALL)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_hangup_begins_a_new_file_and_no_line_is_lost(start: Start, tmp_path: Path) -> None:
    path, old = tmp_path / "audit", tmp_path / "audit.1"
    daemon = start(tmp_path / "state", f"--audit={path}")
    discovery_id = daemon.create_id()
    daemon.request("POST", f"/{discovery_id}", {"addr": "10.0.0.1:4001"})
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for("audit log reopened")
    path.rename(old)
    before = len(daemon.events)
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for("audit log reopened", since=before)
    assert path.read_bytes() == b""
    daemon.request("DELETE", f"/{discovery_id}", {"addr": "10.0.0.1:4001"})
    daemon.terminate()
    assert [line["event"] for line in lines(old)] == ["start", "create", "registration"]
    assert [line["event"] for line in lines(path)] == ["removal", "stop"]
    assert lines(old)[2].items() >= {"outcome": "granted", "client": "127.0.0.1", "discovery_id": discovery_id}.items()
    assert path.stat().st_mode & 0o777 & ~0o640 == 0


def test_token_changes_and_refusals_are_in_the_audit_log(installed: Environment, start: Start, tmp_path: Path) -> None:
    path, file = tmp_path / "audit", tmp_path / "tokens"
    installed.run("rqdisco", "token", "new", "ops", "--scope=admin", f"--file={file}")
    daemon = start(tmp_path / "state", f"--tokens={file}", f"--audit={path}")
    assert daemon.request("POST", "/").status == 401
    edited = tmp_path / "edited"
    shutil.copy(file, edited)
    installed.run("rqdisco", "token", "new", "minter", "--scope=mint", f"--file={edited}")
    installed.run("rqdisco", "token", "revoke", "ops", f"--file={edited}")
    edited.rename(file)
    daemon.wait_for("tokens reloaded", added=1, revoked=1, changed=0)
    daemon.terminate()
    reported = [(line["event"], line["outcome"], line.get("name"), line.get("why")) for line in lines(path)]
    assert reported == [
        ("start", "started", None, None),
        ("create", "refused", None, "authentication required"),
        ("token", "revoked", "ops", None),
        ("token", "added", "minter", None),
        ("stop", "stopped", None, None),
    ]


def test_an_audit_log_on_a_full_disk_stops_nobody_and_is_reported_once(start: Start, tmp_path: Path) -> None:
    daemon = start(tmp_path / "state", "--audit=/dev/full")
    event = daemon.wait_for("audit log cannot be written: No space left on device")
    discovery_id = daemon.create_id()
    assert daemon.request("POST", f"/{discovery_id}", {"addr": "10.0.0.1:4001"}).status == 200
    assert daemon.complaints == [event]
    assert daemon.terminate() == -signal.SIGTERM


@needs("logrotate")
def test_the_documented_logrotate_rule_works(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
    (snippet,) = _SNIPPET.findall(text)
    (tmp_path / "audit.jsonl").write_text("{}\n")
    rule = tmp_path / "rule"
    rule.write_text(snippet.replace("/var/log/rqdisco", str(tmp_path)).replace("su rqdisco rqdisco", "su root root"))
    rule.chmod(0o644)
    checked = subprocess.run(
        [shutil.which("logrotate") or "", "--debug", "--force", f"--state={tmp_path / 's'}", str(rule)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert "error" not in checked.stderr
