"""The files that an import reads: exports, snapshots, and the documents of other services."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from rqdisco.cli.import_sources import BadSource, open_source
from rqdisco.client import ExportedDecisions, ExportedNode, ExportedRecord
from rqdisco.core import codec
from rqdisco.core.export_encoder import ExportEncoder
from rqdisco.core.records import Grant, Node, Record
from rqdisco.storage.snapshot import SnapshotHeader, encode_snapshot

A, B = "10.0.0.1:4001", "10.0.0.2:4001"
MADE = "2017-02-20 01:25:45.589277"
MADE_US = 1_487_553_945_589_277


def document(discovery_id: str, *nodes: str, **more: Any) -> dict[str, Any]:
    return {"created_at": MADE, "disco_id": discovery_id, "nodes": nodes, **more}


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
