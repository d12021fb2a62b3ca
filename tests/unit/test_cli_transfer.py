"""The commands that move all records out of one daemon and into another."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.web.server import NOT_DONE_YET

from rqdisco.cli.transfer import batches
from rqdisco.client import ExportedNode, ExportedRecord
from tests.support.command import Service, Shell, Stream, lead
from tests.support.daemon import create_id, register, shown
from tests.support.foreign_services import LeafResource

A, B = "10.0.0.1:4001", "10.0.0.2:4001"
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def shell() -> Shell:
    return Shell(Service(operator=True))


def other_daemon() -> Shell:
    return Shell(Service(operator=True, seed=1))


def test_an_export_goes_to_stdout_and_its_count_to_stderr(shell: Shell) -> None:
    ids = {create_id(shell.service.daemon) for _ in range(250)}
    assert shell("export") == 0
    assert {record["id"] for record in json.loads(shell.out.text)["records"]} == ids
    assert shell.messages == "rqdisco: exported 250 IDs\n"


def test_an_export_file_is_readable_by_its_owner_only(shell: Shell, tmp_path: Path) -> None:
    create_id(shell.service.daemon)
    path = tmp_path / "export.json"
    path.write_text("an older one")
    assert shell("export", "-o", str(path)) == 0
    assert shell.out.text == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(json.loads(path.read_text())["records"]) == 1
    assert os.listdir(tmp_path) == ["export.json"]


def test_an_export_can_be_written_where_no_file_can_be_created(shell: Shell, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        assert shell("export", "--output", str(pipe)) == 0
        assert json.loads(os.read(reader, 4096))["records"] == []
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert shell("export", "-o", "-") == 0
    assert json.loads(shell.out.text)["records"] == []


def test_a_symbolic_link_stays_and_its_target_is_replaced(shell: Shell, tmp_path: Path) -> None:
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("an older one")
    link.symlink_to(target)
    assert shell("export", "-o", str(link)) == 0
    assert link.is_symlink()
    assert json.loads(target.read_text())["records"] == []


def test_a_link_to_an_open_file_such_as_dev_stdout_stays(shell: Shell, tmp_path: Path) -> None:
    target, link = tmp_path / "target.json", tmp_path / "link"
    with target.open("w+") as file:
        link.symlink_to(f"/proc/self/fd/{file.fileno()}")
        assert shell("export", "-o", str(link)) == 0
        assert json.loads(target.read_text())["records"] == []
        target.unlink()
        assert shell("export", "-o", str(link)) == 0
        assert link.is_symlink()
        assert os.listdir(tmp_path) == ["link"]


def test_a_file_that_cannot_be_written_is_reported_in_words(shell: Shell, tmp_path: Path) -> None:
    assert shell("export", "-o", str(tmp_path / "no" / "where")) == 1
    assert "No such file or directory" in shell.messages


class CutOff(LeafResource):
    """Begins an export and hangs up."""

    def render(self, request: Any) -> Any:
        request.write(b'{"format":"rqdisco export","version":1,"count":2,"records":[\n{"id":"a","created_at":1},\n')
        request.transport.loseConnection()
        return NOT_DONE_YET


def test_an_interrupted_export_leaves_no_file(tmp_path: Path) -> None:
    shell = Shell(Service(CutOff()))
    assert shell("export", "-o", str(tmp_path / "export.json")) == 3
    assert os.listdir(tmp_path) == []
    assert "the connection was closed before the response was complete" in shell.messages


class Unresponsive(LeafResource):
    """Begins an export and stops sending."""

    def render(self, request: Any) -> Any:
        request.write(b'{"format":"rqdisco export","version":1,"count":2,"records":[\n')
        return NOT_DONE_YET


def test_ctrl_c_leaves_no_file_either(tmp_path: Path) -> None:
    shell = Shell(Service(Unresponsive()))
    exporting = shell.start("export", "-o", str(tmp_path / "export.json"))
    assert os.listdir(tmp_path) != []
    exporting.interrupt()
    shell.service.settle()
    assert exporting.status == 130
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "line",
    [
        *(["export"], ["import", str(GOLDEN / "v1" / "snapshot.json")], ["list"], ["peers"], ["drain", "--yes"]),
        *(["peers", "forget", "b", "--yes"], ["freeze", "x"], ["thaw", "--yes"]),
    ],
    ids=" ".join,
)
def test_the_public_api_refers_operators_to_their_socket_or_a_token(line: list[str]) -> None:
    shell = Shell(Service())
    assert shell(*line) == 1
    assert shell.out.text in ("", "[")
    assert shell.messages == (
        "rqdisco: this address does not serve operators: use --url unix:/run/rqdisco/operator.sock, or the path given"
        " to the daemon's --operator-socket; or set RQDISCO_TOKEN to a token with the scope admin\n"
    )


def export_file(shell: Shell, path: Path) -> str:
    assert shell("export", "-o", str(path)) == 0
    return str(path)


def test_an_export_can_be_imported_repeatedly(shell: Shell, tmp_path: Path) -> None:
    discovery_id = create_id(shell.service.daemon)
    register(shell.service.daemon, discovery_id, A)
    path = export_file(shell, tmp_path / "export.json")
    other = other_daemon()
    assert other("import", path) == 0
    assert other.lines == ["imported 1", "unchanged 0", "refused 0"]
    assert shown(other.service.daemon, discovery_id) == [A]
    assert other("import", path) == 0
    assert other.lines == ["imported 0", "unchanged 1", "refused 0"]


def test_imported_ids_bootstrap_no_cluster_unless_they_are_adopted(shell: Shell, tmp_path: Path) -> None:
    discovery_id = create_id(shell.service.daemon)
    path = export_file(shell, tmp_path / "export.json")
    other = other_daemon()
    assert other("import", path) == 0
    assert other("register", discovery_id, A) == 1
    assert "has no owner" in other.messages
    adopting = other_daemon()
    assert adopting("import", path, "--adopt") == 0
    assert adopting("register", discovery_id, A) == 0


def test_a_dry_run_reads_and_sends_nothing(shell: Shell, tmp_path: Path) -> None:
    create_id(shell.service.daemon)
    path = export_file(shell, tmp_path / "export.json")
    other = other_daemon()
    assert other("import", "--dry-run", path) == 0
    assert other.messages == f"rqdisco: {path}: rqdisco export, 1 ID; nothing sent\n"
    assert other.service.asked == 0


def test_refused_records_are_named_and_the_rest_is_imported(tmp_path: Path, shell: Shell) -> None:
    path = tmp_path / "documents.json"
    nodes: dict[str, list[str]] = {"metrics": [], "good": [A]}
    documents = [{"created_at": "2017-02-20", "disco_id": each, "nodes": nodes[each]} for each in nodes]
    path.write_text(json.dumps(documents))
    assert shell("import", str(path)) == 1
    assert shell.lines == ["imported 1", "unchanged 0", "refused 1"]
    assert shell.messages == "rqdisco: refused metrics: invalid id: not a discovery ID\n"
    assert shown(shell.service.daemon, "good") == [A]


@pytest.mark.parametrize("damage", [lambda text: text[:-30], lambda text: text.replace(A, B), lambda text: text + "x"])
def test_nothing_of_a_damaged_export_is_sent(shell: Shell, tmp_path: Path, damage: Any) -> None:
    register(shell.service.daemon, create_id(shell.service.daemon), A)
    path = Path(export_file(shell, tmp_path / "export.json"))
    path.write_text(damage(path.read_text()))
    other = other_daemon()
    assert other("import", str(path)) == 1
    assert other.messages.startswith(f"rqdisco: nothing imported: {path}: ")
    assert other.service.asked == 0


def test_an_interrupted_import_reports_that_it_can_be_repeated(shell: Shell, tmp_path: Path) -> None:
    for _ in range(600):
        create_id(shell.service.daemon)
    path = export_file(shell, tmp_path / "export.json")
    other = other_daemon()
    ask = other.service.request

    def once(*args: Any, **kwargs: Any) -> Deferred[Any]:
        answer = ask(*args, **kwargs)
        other.service.away = True
        return answer

    other.service.request = once  # type: ignore[method-assign]
    assert other("import", path) == 3
    assert "imported 500 of 600 IDs; run the command again" in other.messages
    other.service.away = False
    other.service.request = ask  # type: ignore[method-assign]
    assert other("import", path) == 0
    assert other.lines[:2] == ["imported 100", "unchanged 500"]


def test_an_export_can_be_piped_into_an_import(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    discovery_id = create_id(shell.service.daemon)
    shell("export")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(shell.out.text.encode())))
    other = other_daemon()
    assert other("import") == 0
    assert shown(other.service.daemon, discovery_id) == []
    monkeypatch.setattr(sys, "stdin", Stream(terminal=True))
    assert other("import") == 2
    assert "Missing argument 'FILE|DIR|-'" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"what?")))
    assert other("import", "-") == 1
    assert other.messages.startswith("rqdisco: nothing imported: -: ")


def test_progress_is_shown_on_a_terminal(shell: Shell, tmp_path: Path) -> None:
    create_id(shell.service.daemon)
    path = export_file(shell, tmp_path / "export.json")
    terminal = Shell(Service(operator=True, seed=1), terminal=True)
    assert terminal("import", path) == 0
    assert terminal("export", "-o", path) == 0
    assert "exporting" in terminal.messages


@pytest.mark.parametrize("version", ["v1", "v2", "v3", "v4", "v5"])
def test_snapshots_of_every_version_can_be_imported(shell: Shell, version: str) -> None:
    path = GOLDEN / version / "snapshot.json"
    ids = [record["id"] for record in json.loads(path.read_text())["records"]]
    # The others are what a daemon stores of its peers.
    ids = [discovery_id for discovery_id in ids if not discovery_id.startswith("!")]
    assert shell("import", str(path)) == 0
    assert shell.lines[0] == f"imported {len(ids)}"
    for discovery_id in ids:
        assert shell("show", discovery_id) == 0


def test_leader_records_of_snapshots_come_along(shell: Shell) -> None:
    path = GOLDEN / "v2" / "snapshot.json"
    led = [record["id"] for record in json.loads(path.read_text())["records"] if "leader" in record]
    assert led
    shell("import", str(path))
    for discovery_id in led:
        assert shell("leader", "show", discovery_id) == 0


def test_an_unreported_claim_is_imported_as_such_from_exports_and_snapshots(shell: Shell, tmp_path: Path) -> None:
    for _ in range(2):
        lead(shell, "kv", "--cas", "0")
    for path, name, answered in (
        (export_file(shell, tmp_path / "export.json"), "kv", 2),
        (str(GOLDEN / "v5" / "snapshot.json"), "Waits_9", 1),
    ):
        other = other_daemon()
        assert other("import", path) == 0
        client = other.service.client()
        imported = other.service.get(client.get(name))
        assert (imported.nodes, imported.leader, imported.claim.answered) == ((), None, answered)


def test_batches_hold_500_records_or_a_megabyte_and_lose_none() -> None:
    small = [ExportedRecord(id=str(number), created_at=1) for number in range(1001)]
    cut = list(batches(iter(small)))
    assert [len(batch) for batch in cut] == [500, 500, 1]
    assert [record for batch in cut for record in batch] == small
    large = [
        ExportedRecord(id="x", created_at=1, nodes=(ExportedNode(addr="a" * size),)) for size in (600_000, 2**21, 9)
    ]
    assert [len(batch) for batch in batches(iter(large))] == [1, 1, 1]
    assert list(batches(iter(()))) == []
