"""The formats on disk: golden files of every version, and codecs that accept nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqdisco.core import codec
from rqdisco.core.errors import DamagedState
from rqdisco.core.records import Grant, Leader, Node, Record, UnreportedClaim
from rqdisco.storage.memory import Store
from rqdisco.storage.snapshot import SnapshotHeader, SnapshotReader, encode_snapshot
from rqdisco.storage.wal.recovery import recover
from tests.support.daemon import STATE, Daemon
from tests.support.disk import ModelDisk

GOLDEN = Path(__file__).parent / "golden"

TEXT = st.text(min_size=1, max_size=30)
NODES = st.builds(Node, addr=TEXT, raft_addr=st.none() | TEXT, node_id=st.none() | TEXT)
RECORDS = st.builds(
    Record,
    id=st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
    owner=st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    version=st.integers(0, 2**53),
    created_at=st.integers(0, 2**53),
    nodes=st.lists(NODES, max_size=4).map(tuple),
    grant=st.none()
    | st.builds(
        Grant,
        addr=TEXT,
        boot=st.integers(0, 9),
        at=st.integers(0, 2**40),
        pending=st.booleans(),
        host=st.none() | TEXT,
    ),
    was_emptied=st.booleans(),
    leader=st.none() | st.builds(Leader, addr=TEXT, value=TEXT, created=st.integers(1), modified=st.integers(1)),
    confirmed=st.booleans(),
    attempted=st.booleans(),
    unreported=st.none() | st.builds(UnreportedClaim, times=st.integers(1, 2**53), since=st.integers(0, 2**53)),
    host=st.none() | TEXT,
    previous_owners=st.lists(st.from_regex(r"[0-9a-f]{16}", fullmatch=True), max_size=2).map(tuple),
    ownerless=st.booleans(),
)


@given(RECORDS)
def test_a_record_is_read_back_from_its_line_and_its_key_is_its_id(record: Record) -> None:
    line = codec.encode_record(record)
    assert codec.decode_record(line) == record
    key, rest = codec.split_record(line)
    assert key == record.id.encode()
    assert codec.join_record(key, rest) == line
    assert b"\n" not in line


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b'{"id":"x","home":"h","version":1}',
        b'{"id":"x","home":"h","version":"1","created_at":1}',
        b'{"id":"x","home":"h","version":1,"created_at":1',
        b'{"id":"x","home":"h","version":1,"created_at":1,"ever":"\xff"}',
        b"[" * 100_000,
    ],
)
def test_a_record_of_another_version_is_malformed(line: bytes) -> None:
    with pytest.raises(codec.Malformed):
        codec.decode_record(line)


@pytest.mark.parametrize(
    "line", [b"", b"x", b'{"home":"h"}', b'{"id":""}', b'{"id":"x"', b'{"id":"x', b'{"id":"x","version":1}']
)
def test_a_line_that_does_not_begin_with_its_id_and_owner_is_malformed(line: bytes) -> None:
    with pytest.raises(codec.Malformed):
        codec.split_record(line)


@given(st.lists(RECORDS, max_size=8, unique_by=lambda record: record.id))
def test_a_snapshot_is_one_valid_json_document_with_a_record_per_line(records: list[Record]) -> None:
    lines = {record.id.encode(): codec.encode_record(record) for record in records}
    header = SnapshotHeader(segment=3, crc=5, boot=1, boot_id="b", last_version=7)
    content = b"".join(encode_snapshot(header, (lines[key] for key in sorted(lines))))
    document = json.loads(content)
    assert document["count"] == len(document["records"]) == len(records)
    assert content.count(b"\n") == len(records) + 2
    disk = ModelDisk()
    disk.replace(STATE / "s", content)
    reader = SnapshotReader(disk, STATE / "s")
    assert {key: codec.join_record(key, rest) for key, rest in reader.records()} == lines
    assert reader.header == header


LEADER_VALUE = '{"id":"n4","api_addr":"http://10.0.0.4:4001","addr":"10.0.0.4:4002"}'
EXPECTED = {
    "1a2b3c4d-0000-8000-8000-000000000001": ["10.0.0.1:4001", "http://10.0.0.2:4001", "ünï:1"],
    "1a2b3c4d-0000-8000-8000-000000000002": [],
    "1a2b3c4d-0000-8000-8000-000000000003": ["[fdaa::1]:4001"],
}


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_the_state_of_every_earlier_version_is_read(version: int) -> None:
    disk = ModelDisk()
    disk.make_directory(STATE)
    disk.make_directory(STATE / "journal")
    for file in sorted((GOLDEN / f"v{version}").rglob("*.j*")):
        disk.replace(STATE / file.relative_to(GOLDEN / f"v{version}"), file.read_bytes())
    disk._numbers = 6
    identity = disk._seen[STATE / "identity.json"]
    assert identity is not None
    identity.number = 7
    found = Daemon(disk)
    assert found.owner == "1a2b3c4d5e6f7081"
    shown = {key.decode(): found.store.settled(key.decode()) for key in found.found.records}
    named = {"Named_4": ["10.0.0.4:4001"]} if version > 1 else {}
    if version > 2:
        named |= {"ffee0000-0000-8000-8000-000000000005": ["10.0.0.5:4001"], "cafe0000-0000-8000-8000-000000000006": []}
    if version > 3:
        # An eighth has expired.
        seventh = "1a2b3c4d-0000-8000-8000-000000000007"
        named[seventh] = []
        record = shown[seventh]
        assert record is not None
        assert record.attempted
    if version > 4:
        named |= {"Waits_9": ["10.0.0.9:4001"], "Waits_10": ["10.0.0.10:4001"]}
        named["1a2b3c4d-0000-8000-8000-000000000011"] = ["localhost:4001", "localhost:4003"]
    assert {key: [node.addr for node in record.nodes] for key, record in shown.items() if record} == EXPECTED | named
    second, third = (shown[f"1a2b3c4d-0000-8000-8000-00000000000{n}"] for n in (2, 3))
    assert second is not None
    assert third is not None
    assert second.was_emptied
    assert third.grant == Grant(addr="[fdaa::1]:4001", boot=2, at=77)
    assert third.nodes[0] == Node(addr="[fdaa::1]:4001", raft_addr="[fdaa::1]:4002", node_id="n1")
    if version > 1:
        fourth = shown["Named_4"]
        assert fourth is not None
        assert fourth.leader == Leader(addr="10.0.0.4:4001", value=LEADER_VALUE, created=4, modified=8, flags=7)
        assert fourth.confirmed
    if version > 2:
        fifth, sixth = shown["ffee0000-0000-8000-8000-000000000005"], shown["cafe0000-0000-8000-8000-000000000006"]
        assert fifth is not None
        assert fifth.grant == Grant(addr="10.0.0.5:4001", boot=1, at=3, pending=True)
        assert sixth is not None
        assert sixth.ownerless
        assert sixth.previous_owners == ("cafe000000000000",)
        notes = {codec.decode_stored_metadata(key, rest) for key, rest in found.found.metadata.items()}
        kept = sorted((note.id, note.number) for note in notes if not note.is_empty)
        expired = [("!expired/1a2b3c4d5e6f7081", 21)] if version > 3 else []
        assert kept == [
            ("!cursor/ffeeddccbbaa9988", 11),
            *expired,
            ("!hint/0001795000000000", 1_795_000_000_000),
            ("!member/ffeeddccbbaa9988", 0),
        ]
    if version > 4:
        ninth, tenth = shown["Waits_9"], shown["Waits_10"]
        eleventh = shown["1a2b3c4d-0000-8000-8000-000000000011"]
        assert ninth is not None
        assert (ninth.unreported, ninth.confirmed) == (None, True)
        assert ninth.grant == Grant(addr="10.0.0.9:4001", boot=1, at=30, host="@ffeeddccbbaa9988")
        assert tenth is not None
        assert (tenth.unreported, tenth.confirmed) == (UnreportedClaim(times=3, since=1_795_000_000_022), False)
        assert eleventh is not None
        assert eleventh.host == "10.0.0.11"


def test_a_snapshot_marks_an_unreported_claim() -> None:
    disk = ModelDisk()
    disk.replace(STATE / "s", (GOLDEN / "v5" / "snapshot.json").read_bytes())
    lines = dict(SnapshotReader(disk, STATE / "s").records())
    waits = codec.decode_record(codec.join_record(b"Waits_9", lines[b"Waits_9"]))
    assert waits.unreported == UnreportedClaim(times=1, since=1_795_000_000_000)


def snapshot_of(count: int, change: Callable[[list[bytes]], object]) -> ModelDisk:
    """Write a snapshot of many records, whose lines `change` has changed."""
    lines = [codec.encode_record(Record(id=f"{n:06}", owner="0" * 16, version=n, created_at=n)) for n in range(count)]
    change(lines)
    disk = ModelDisk()
    disk.make_directory(STATE)
    header = SnapshotHeader(segment=1, crc=2, boot=3, boot_id="b", last_version=4)
    disk.create(STATE / "s").write(b"".join(encode_snapshot(header, lines)))
    return disk


def test_a_large_snapshot_is_read_in_batches_that_hold_every_record_once() -> None:
    batches = list(SnapshotReader(snapshot_of(4500, lambda _: None), STATE / "s").batches())
    assert len(batches) > 2
    assert [key for batch in batches for key, _ in batch] == [b"%06d" % number for number in range(4500)]


@pytest.mark.parametrize("at", [1, 1999, 2000, 2001, 3999, 4499])
@pytest.mark.parametrize(
    ("line", "why"),
    [(b'{"id":"000000","home":"' + b"0" * 16 + b'"}', "not in the order of IDs"), (b"{}", "not a record")],
)
def test_the_line_that_is_wrong_in_a_large_snapshot_is_named(at: int, line: bytes, why: str) -> None:
    disk = snapshot_of(4500, lambda lines: lines.__setitem__(at, line))
    with pytest.raises(DamagedState, match=f"line {at + 2}: {why}"):
        list(SnapshotReader(disk, STATE / "s").records())


def test_unknown_fields_of_newer_peers_are_preserved() -> None:
    line = (
        b'{"id":"x","home":"00000000000000aa","version":1,"created_at":1,"news":[1],"nodes":[{"addr":"a:1","new":1}]}'
    )
    store = Store()
    store.settle([store.put_line(line, codec.decode_record(line).version)])
    assert store.line(b"x") == line


def test_the_golden_files_are_what_this_release_writes() -> None:
    """Fails when a format changes: give it a new version, keep the old files, and add new ones."""
    disk = ModelDisk()
    disk.make_directory(STATE)
    disk.make_directory(STATE / "journal")
    for file in sorted((GOLDEN / "v5").rglob("*.j*")):
        disk.replace(STATE / file.relative_to(GOLDEN / "v5"), file.read_bytes())
    found = recover(disk, STATE)
    for line in (codec.join_record(key, rest) for key, rest in found.records.items()):
        assert codec.encode_record(codec.decode_record(line)) == line
    reader = SnapshotReader(disk, STATE / "snapshot.json")
    content = b"".join(encode_snapshot(reader.header, (codec.join_record(key, rest) for key, rest in reader.records())))
    assert content == disk.read(STATE / "snapshot.json")
