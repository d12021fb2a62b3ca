"""Incarnations, and the IDs that carry their tag."""

from __future__ import annotations

import uuid
from contextlib import suppress
from pathlib import Path
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from rqdisco.core.ids import new_id, owner_tag
from rqdisco.storage.identity import NAME, load_identity
from tests.support.daemon import STATE
from tests.support.disk import ModelDisk


@given(st.binary(min_size=8, max_size=8), st.integers())
def test_an_id_is_a_version_8_uuid_with_its_owners_tag(incarnation: bytes, seed: int) -> None:
    owner = incarnation.hex()
    created = uuid.UUID(new_id(owner, Random(seed).randbytes))
    assert (created.version, created.variant) == (8, uuid.RFC_4122)
    assert str(created)[:4] == owner_tag(owner)


def test_all_of_an_id_but_tag_and_version_is_random() -> None:
    random, ones, zeros = Random(1), 0, 0
    for _ in range(300):
        value = uuid.UUID(new_id("0" * 16, random.randbytes)).int
        ones |= value
        zeros |= ~value
    assert (ones & zeros).bit_count() == 106


def test_a_fresh_directory_gets_an_incarnation_and_keeps_it() -> None:
    disk = ModelDisk()
    disk.make_directory(STATE)
    first, was_new = load_identity(disk, STATE, Random(1).randbytes)
    again, is_new = load_identity(disk, STATE, Random(2).randbytes)
    assert (first, was_new, is_new) == (again, True, False)
    assert len(bytes.fromhex(first.incarnation)) == 8


def test_the_golden_file_of_the_second_version_is_read_and_written_alike() -> None:
    content = (Path(__file__).parent / "golden" / "identity-v2" / "identity.json").read_bytes()
    disk = ModelDisk()
    disk._numbers = 4
    disk.make_directory(STATE)
    disk._numbers = 6
    disk.replace(STATE / NAME, content)
    identity, is_new = load_identity(disk, STATE, Random(1).randbytes)
    assert (identity.incarnation, is_new) == ("1a2b3c4d5e6f7081", False)
    disk.remove(STATE / NAME)
    disk._numbers = 6
    load_identity(disk, STATE, lambda count: bytes.fromhex("1a2b3c4d5e6f7081"))
    assert disk.read(STATE / NAME) == content


def test_a_crash_during_the_write_of_the_identity_leaves_it_or_none() -> None:
    for seed in range(50):
        disk = ModelDisk()
        disk.make_directory(STATE)
        first, _ = load_identity(disk, STATE, Random(1).randbytes)
        again, is_new = load_identity(disk.crash(Random(seed)), STATE, Random(2).randbytes)
        assert (again, is_new) == (first, False)
        unsynced = ModelDisk()
        unsynced.make_directory(STATE)
        unsynced.broken_syncs = {1 + seed % 2}
        with suppress(OSError):
            load_identity(unsynced, STATE, Random(1).randbytes)
        load_identity(unsynced.crash(Random(seed)), STATE, Random(2).randbytes)
