"""All records out of one daemon and into another, and in from other services."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.web.server import NOT_DONE_YET

from rqdisco.cli.import_sources import BadSource, open_source
from rqdisco.cli.transfer import batches
from rqdisco.client import ExportedDecisions, ExportedNode, ExportedRecord
from rqdisco.core import codec
from rqdisco.core.export_encoder import ExportEncoder
from rqdisco.core.records import Grant, Node, Record
from rqdisco.storage.snapshot import SnapshotHeader, encode_snapshot
from tests.support.command import Service, Shell, Stream, lead
from tests.support.daemon import create_id, register, shown
from tests.support.foreign_services import LeafResource

A, B = "10.0.0.1:4001", "10.0.0.2:4001"
MADE = "2017-02-20 01:25:45.589277"
MADE_US = 1_487_553_945_589_277
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def shell() -> Shell:
    return Shell(Service(operator=True))


def other_daemon() -> Shell:
    return Shell(Service(operator=True, seed=1))


def document(discovery_id: str, *nodes: str, **more: Any) -> dict[str, Any]:
    return {"created_at": MADE, "disco_id": discovery_id, "nodes": nodes, **more}


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
    path.write_text(json.dumps([document("metrics"), document("good", A)]))
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


def snapshot_file(path: Path, *records: Record) -> Path:
    header = SnapshotHeader(segment=1, crc=0, boot=1, boot_id="boot-a", last_version=1)
    lines = [codec.encode_record(record) for record in records]
    path.write_bytes(b"".join(encode_snapshot(header, lines)))
    return path


def test_a_snapshot_lists_no_node_whose_grant_was_never_answered(tmp_path: Path) -> None:
    grant = Grant(addr=A, at=1, boot=1, pending=True)
    pending = Record(
        id="x", owner="1" * 16, version=1, created_at=MADE_US, nodes=(Node(addr=B), Node(addr=A)), grant=grant
    )
    (read,) = records(snapshot_file(tmp_path / "snapshot.json", pending))
    assert [node.addr for node in read.nodes] == [B]


def test_an_ownerless_id_keeps_its_owner_in_exports_and_snapshots(tmp_path: Path) -> None:
    lost = Record(
        id="x",
        owner="2" * 16,
        version=1,
        created_at=MADE_US,
        nodes=(Node(addr=A),),
        previous_owners=("1" * 16,),
        ownerless=True,
    )
    export = ExportEncoder(1)
    path = tmp_path / "export.json"
    path.write_bytes(b"".join((export.header(), export.record(lost), export.footer())))
    (exported,) = records(path)
    # A snapshot may lack later decisions.
    assert records(snapshot_file(tmp_path / "snapshot.json", lost)) == [replace(exported, decisions=None)]
    assert exported.decisions == ExportedDecisions(ownerless=True)
    assert exported.owner == "1" * 16


def records(path: Path) -> list[ExportedRecord]:
    source = open_source(path)
    found = list(source.records())
    assert source.count == len(found)
    return found


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_documents_of_the_original_service_are_read_in_every_form(tmp_path: Path) -> None:
    first, second = document("first", A, B), document("second")
    expected = [
        ExportedRecord(id="first", created_at=MADE_US, nodes=(ExportedNode(addr=A), ExportedNode(addr=B))),
        ExportedRecord(id="second", created_at=MADE_US),
    ]
    path = tmp_path / "documents"
    assert records(written(path, json.dumps(first))) == expected[:1]
    assert records(written(path, json.dumps(first, indent=2))) == expected[:1]
    assert records(written(path, json.dumps([first, second], indent=2))) == expected
    assert records(written(path, f"{json.dumps(first)}\n\n{json.dumps(second)}\n")) == expected


def test_answers_of_rqdisco_keep_raft_addresses_and_node_ids(tmp_path: Path) -> None:
    known = {"addr": A, "raft_addr": "10.0.0.1:4002", "node_id": "n1", "leader": True}
    (record,) = records(written(tmp_path / "x", json.dumps(document("x", A, registrations=[known]))))
    assert record.nodes == (ExportedNode(addr=A, raft_addr="10.0.0.1:4002", node_id="n1"),)


def test_a_time_without_fraction_or_with_a_zone_is_parsed_and_a_double_entry_is_one(tmp_path: Path) -> None:
    plain = document("x", A, A) | {"created_at": "2017-02-20 01:25:45"}
    zoned = document("x", A) | {"created_at": "2017-02-20T02:25:45+01:00"}
    for given in (plain, zoned):
        (record,) = records(written(tmp_path / "x", json.dumps(given)))
        assert record.created_at == MADE_US // 1_000_000 * 1_000_000
        assert record.nodes == (ExportedNode(addr=A),)


def test_a_directory_of_rqlite_disco_express_is_read_file_by_file(tmp_path: Path) -> None:
    written(tmp_path / "b.json", json.dumps(document("b", A)))
    written(tmp_path / "a.json", json.dumps({"created_at": MADE, "nodes": []}))
    written(tmp_path / "README", "no JSON")
    assert [record.id for record in records(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "truncated"),
        ("what?", "malformed"),
        ("5", "Expected `object`"),
        ('{"created_at": "x", "disco_id": "x"}', "created_at is not a time"),
        ('{"created_at": "2017-02-20"}', "disco_id is missing"),
        ('{"disco_id": "x"}', "missing required field `created_at`"),
        (
            '[{"created_at": "2017-02-20", "disco_id": "x"}, {"created_at": "2017-02-20"}]',
            "entry 2: disco_id is missing",
        ),
        ('{"created_at": "2017-02-20", "disco_id": "x"}\n{}', "line 2: Object missing required field"),
        ('{"created_at": "2017-02-20", "disco_id": "x", "nodes": [5]}', "$.nodes[0]"),
        ('{"format":"rqdisco snapshot","version":99,"segment":1,"crc":1,"records":[\n', "newer"),
        ('{"format":"rqdisco snapshot"}', "not the header of an rqdisco snapshot"),
        ('{\n "format": "rqdisco export"}', "exactly as it was written"),
    ],
)
def test_a_record_that_cannot_be_imported_is_refused_with_its_position(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path / "source", text)
    with pytest.raises(BadSource, match=str(path)) as refused:
        open_source(path)
    assert words in str(refused.value)


def test_directories_without_documents_are_refused_and_state_directories_explained(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match=r"no \.json files"):
        open_source(tmp_path)
    (tmp_path / "journal").mkdir()
    with pytest.raises(BadSource, match="is a state directory of rqdisco"):
        open_source(tmp_path)


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
