"""Every reason that keeps the daemon from starting is one line, with an exit status for
supervisors.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.support.process import ANY_PORT, Environment

pytestmark = pytest.mark.process


def refusal(
    installed: Environment, state: Path, *options: str, listen: str = ANY_PORT, **environment: str
) -> tuple[int, str]:
    """Return exit status and reason of a daemon that does not start; the reason must be one line."""
    result = installed.run(*installed.twistd(state, *options, listen=listen), **environment)
    assert "Traceback" not in result.stdout
    line, end, rest = result.stderr.partition("\n")
    assert (end, rest) == ("\n", ""), result.stderr
    assert line.startswith("rqdisco: ")
    return result.returncode, line.removeprefix("rqdisco: ")


@pytest.fixture(scope="module")
def state(installed: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with a snapshot, the one before it and a journal with several frames."""
    path = tmp_path_factory.mktemp("written") / "state"
    daemon = installed.start(*installed.twistd(path, "--snapshot-every=1"))
    try:
        for count in (1, 2):
            discovery_id = daemon.create_id()
            daemon.wait_for("snapshot written", records=count)
        for number in range(5):
            daemon.request("POST", f"/{discovery_id}", {"addr": f"10.0.0.{number}:4001"})
    finally:
        daemon.kill()
    return path


@pytest.fixture
def written(state: Path) -> Iterator[Path]:
    """The same for each test; restored in place, because a copy of it would be noticed."""
    content = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    yield state
    for path in state.rglob("*"):
        if path.is_file() and path not in content:
            path.unlink()
    for path, data in content.items():
        path.write_bytes(data)


@pytest.mark.parametrize(
    "option",
    ["--max-nodes=0", "--max-nodes=many", "--snapshot-every=0.5", "--retry-window=nan", "--no-such-option", "extra"],
)
def test_a_bad_option_is_64(installed: Environment, tmp_path: Path, option: str) -> None:
    code, line = refusal(installed, tmp_path / "state", option)
    assert code == 64
    assert "twistd rqdisco --help" in line


def test_a_bad_variable_is_64(installed: Environment, tmp_path: Path) -> None:
    assert refusal(installed, tmp_path / "state", RQDISCO_MAX_BODY="1k")[0] == 64
    assert refusal(installed, tmp_path / "state", RQDISCO_STRICT_ADDRESSES="perhaps")[0] == 64


@pytest.mark.parametrize("endpoint", ["nonsense:1", "tcp:port", "tcp:4000:colour=red", ""])
def test_an_endpoint_that_cannot_be_parsed_is_64(installed: Environment, tmp_path: Path, endpoint: str) -> None:
    code, line = refusal(installed, tmp_path / "state", listen=endpoint)
    assert code == 64
    assert "--listen" in line


def test_a_port_in_use_is_69(installed: Environment, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        code, line = refusal(installed, tmp_path / "state", listen=endpoint)
    assert code == 69
    assert line == (
        f"cannot listen on {endpoint}: Address already in use; stop what listens there, or choose another port"
    )


@pytest.mark.parametrize("endpoint", ["tcp:0:interface=192.0.2.1", "unix:/nonexistent/socket"])
def test_an_address_of_another_host_is_69(installed: Environment, tmp_path: Path, endpoint: str) -> None:
    code, line = refusal(installed, tmp_path / "state", "--open", listen=endpoint)
    assert code == 69
    assert line.startswith(f"cannot listen on {endpoint}: ")


def test_an_impossible_port_leaves_no_daemon_that_does_not_listen(installed: Environment, tmp_path: Path) -> None:
    code, line = refusal(installed, tmp_path / "state", listen="tcp:70000:interface=127.0.0.1")
    assert code in (64, 69)
    assert "tcp:70000:interface=127.0.0.1: " in line


def test_one_of_several_ports_in_use_is_69(installed: Environment, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        code, line = refusal(installed, tmp_path / "state", f"--listen={endpoint}")
    assert code == 69
    assert line.startswith(f"cannot listen on {endpoint}: ")


@pytest.mark.parametrize("below", ["file", "file/state"])
def test_an_impossible_directory_is_74(installed: Environment, tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    code, line = refusal(installed, tmp_path / below)
    assert code == 74
    assert str(tmp_path / "file") in line


def test_a_second_daemon_on_a_directory_is_78_and_the_first_continues(
    installed: Environment, start: Start, tmp_path: Path
) -> None:
    daemon = start(tmp_path / "state")
    code, line = refusal(installed, tmp_path / "state")
    assert code == 78
    assert line.startswith(f"{tmp_path / 'state' / 'lock'}: ")
    assert daemon.nodes(daemon.create_id()) == []


def test_a_copy_with_its_identity_is_78(installed: Environment, written: Path, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path / "copy")
    code, line = refusal(installed, tmp_path / "copy")
    assert code == 78
    assert line.startswith(f"{tmp_path / 'copy' / 'identity.json'}: ")


def test_a_hard_linked_backup_is_78_and_its_original_starts(
    installed: Environment, start: Start, written: Path, tmp_path: Path
) -> None:
    shutil.copytree(written, tmp_path / "backup", copy_function=os.link)
    code, line = refusal(installed, tmp_path / "backup")
    assert code == 78
    assert line.startswith(f"{tmp_path / 'backup' / 'identity.json'}: this state directory is a hard-linked copy")
    daemon = start(written)
    assert daemon.request("GET", "/").document["ids"] == 2
    (logged,) = [event for event in daemon.events if event["event"].startswith("files have several hard links")]
    assert logged["files"].startswith("identity.json (2 names), lock (2 names)")
    daemon.kill()
    (tmp_path / "backup" / "identity.json").unlink()
    assert start(tmp_path / "backup").request("GET", "/").document["ids"] == 2


def flip_byte(path: Path, at: float) -> None:
    """Alter one byte at this fraction of the file (0 to 1)."""
    content = bytearray(path.read_bytes())
    content[int(len(content) * at)] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("at", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_damaged_snapshot_is_65(installed: Environment, written: Path, at: float) -> None:
    flip_byte(written / "snapshot.json", at)
    code, line = refusal(installed, written)
    assert code == 65
    assert line.startswith(f"{written / 'snapshot.json'}: ")


def test_the_previous_snapshot_replaces_a_damaged_one(written: Path, start: Start) -> None:
    flip_byte(written / "snapshot.json", 0.5)
    (written / "snapshot.previous.json").replace(written / "snapshot.json")
    assert start(written).request("GET", "/").document["ids"] == 2


@pytest.mark.parametrize("at", [0.0, 0.1, 0.5])
def test_a_damaged_journal_is_65(installed: Environment, written: Path, at: float) -> None:
    newest = max((written / "journal").iterdir())
    flip_byte(newest, at)
    code, line = refusal(installed, written)
    assert code == 65
    assert line.startswith(f"{newest}: byte ")


def test_a_torn_end_of_the_journal_is_cut(written: Path, start: Start) -> None:
    newest = max((written / "journal").iterdir())
    size = newest.stat().st_size
    with newest.open("ab") as journal:
        journal.write(b'#000000ff 01234567 89abcdef\n{"id":')
    daemon = start(written)
    assert daemon.request("GET", "/").document["ids"] == 2
    assert newest.stat().st_size == size
    assert [event["level"] for event in daemon.events if event["event"].startswith("journal: cut")] == ["warn"]


def test_a_damaged_identity_is_65(installed: Environment, written: Path) -> None:
    (written / "identity.json").write_text('{"format"')
    code, line = refusal(installed, written)
    assert code == 65
    assert line.startswith(f"{written / 'identity.json'}: ")
