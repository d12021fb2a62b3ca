"""`rqdisco backup` and `rqdisco restore`."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from rqdisco.storage.files import Disk
from rqdisco.storage.identity import load_identity
from rqdisco.storage.wal.recovery import recover
from tests.support.backends import over
from tests.support.command import Service, Shell
from tests.support.daemon import create_id, register

A = "10.0.0.1:4001"
MADE_AT = "2026-11-18 11:06:40"
BOOTSTRAP = "rqdisco: this daemon continues as cd072cd8be6f9f62: nodes are told to bootstrap under these IDs\n"
OWNERLESS = "rqdisco: this is a new daemon, and these IDs are ownerless: nodes are listed and join"


@pytest.fixture
def shell() -> Shell:
    return Shell(Service(operator=True))


@pytest.fixture
def file(shell: Shell, tmp_path: Path) -> Path:
    """A backup with one ID."""
    register(shell.service.daemon, create_id(shell.service.daemon), A)
    path = tmp_path / "backup.json"
    assert shell("backup", str(path)) == 0
    assert shell.messages == f"rqdisco: backed up 1 ID to {path}\n"
    return path


def incarnation_of(directory: Path) -> str:
    """Return what a daemon that starts on the directory is."""
    identity, is_new = load_identity(Disk(), directory, bytes)
    assert not is_new
    assert len(recover(Disk(), directory).records) == 1
    return identity.incarnation


def test_only_the_owner_of_a_backup_can_read_it(file: Path) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_bytes())["count"] == 1


def test_a_backup_goes_to_stdout_if_the_file_is_a_hyphen(shell: Shell) -> None:
    assert shell("backup", "-") == 0
    assert json.loads(shell.out.text)["format"] == "rqdisco backup"
    assert shell.messages == "rqdisco: backed up 0 IDs to stdout\n"


def test_a_backup_is_not_printed_on_a_terminal() -> None:
    shell = Shell(Service(operator=True), terminal=True)
    assert shell("backup", "-") == 2
    assert shell.messages == "rqdisco: a backup is not for terminals: name a FILE, or redirect stdout\n"


def test_a_backup_that_ends_early_leaves_the_last_one_in_its_place(shell: Shell, file: Path) -> None:
    before = file.read_bytes()
    shell.service.answers["/operator/backup"] = (200, before[:-30])
    assert shell("backup", str(file)) == 1
    assert "nothing backed up: the answer is incomplete: truncated after line 2" in shell.messages
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_backup_says_why_there_is_none(shell: Shell, tmp_path: Path) -> None:
    shell.service.daemon.fill()
    assert shell("backup", str(tmp_path / "b")) == 1
    assert shell.messages == "rqdisco: not now: store unavailable: no snapshot can be made, see the log\n"
    assert list(tmp_path.iterdir()) == []


def test_over_etcd_the_command_says_what_to_back_up_instead(tmp_path: Path) -> None:
    with over("etcd"):
        shell = Shell(Service(operator=True))
        assert shell("backup", str(tmp_path / "b")) == 1
    assert shell.messages == "rqdisco: the records are in etcd: back up etcd (docs/etcd.md)\n"


def test_a_public_listener_makes_no_backups_and_the_command_names_the_socket(tmp_path: Path) -> None:
    shell = Shell(Service())
    assert shell("backup", str(tmp_path / "b")) == 1
    assert "use --url unix:/run/rqdisco/operator.sock" in shell.messages


def test_without_a_word_about_the_original_its_ids_are_ownerless(shell: Shell, file: Path, tmp_path: Path) -> None:
    assert shell("restore", str(file), "--data-dir", str(tmp_path / "state")) == 0
    assert shell.messages.startswith(
        f"rqdisco: restored 1 ID as of {MADE_AT} UTC into {tmp_path / 'state'}\n{OWNERLESS}"
    )
    assert incarnation_of(tmp_path / "state") != shell.service.daemon.owner


def test_once_the_original_is_gone_nodes_are_told_to_bootstrap_again(shell: Shell, file: Path, tmp_path: Path) -> None:
    assert shell("restore", str(file), "--data-dir", str(tmp_path / "state"), "--original-is-gone") == 0
    assert BOOTSTRAP in shell.messages
    assert "never start the original again" in shell.messages
    assert f"what was registered after {MADE_AT} UTC is known only to peers" in shell.messages
    assert incarnation_of(tmp_path / "state") == shell.service.daemon.owner


@pytest.mark.parametrize("is_gone", [True, False])
def test_on_a_terminal_the_command_asks_about_the_original(file: Path, tmp_path: Path, is_gone: bool) -> None:
    shell = Shell(Service(), terminal=True, answers=(is_gone,))
    assert shell("restore", str(file), "--data-dir", str(tmp_path / "state")) == 0
    assert shell.questions == ["Is the daemon that this backup is from gone, and will it never run again?"]
    assert (BOOTSTRAP in shell.messages, OWNERLESS in shell.messages) == (is_gone, not is_gone)


def test_nothing_is_restored_into_a_directory_that_is_not_empty(file: Path, tmp_path: Path) -> None:
    shell = Shell(Service(), terminal=True)
    assert shell("restore", str(file), "--data-dir", str(tmp_path)) == 1
    assert shell.messages == (
        f"rqdisco: nothing restored: {tmp_path}: not empty; move it away, or name another directory\n"
    )
    assert shell.questions == []


def test_nothing_is_restored_from_a_damaged_backup(shell: Shell, file: Path, tmp_path: Path) -> None:
    file.write_bytes(file.read_bytes().replace(A.encode(), b"10.0.0.9:4001"))
    assert shell("restore", str(file), "--data-dir", str(tmp_path / "state")) == 1
    assert "line 3: count or CRC does not match; make a new backup, or use an older one" in shell.messages
    assert not (tmp_path / "state").exists()


def test_a_pipe_cannot_be_restored(shell: Shell, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert shell("restore", str(pipe), "--data-dir", str(tmp_path / "d")) == 1
    assert shell.messages == f"rqdisco: nothing restored: {pipe}: not a regular file, which is read twice\n"
    assert not (tmp_path / "d").exists()


def test_an_export_is_no_backup(shell: Shell, file: Path, tmp_path: Path) -> None:
    assert shell("export", "-o", str(file)) == 0
    assert shell("restore", str(file), "--data-dir", str(tmp_path / "state")) == 1
    assert "line 1: not in the format 'rqdisco backup'" in shell.messages
