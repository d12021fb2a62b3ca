"""The document of a real daemon, tested by schemathesis: everything it allows or forbids is tried,
and each answer judged by it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.integration.test_tokens import new
from tests.support.etcd.processes import arguments
from tests.support.etcd.real import RealEtcd, needs_etcd
from tests.support.process import PATIENCE, DaemonProcess, Environment

pytestmark = pytest.mark.process

_SECONDS = 600.0
# A `DELETE` of an ID removes a node from it, not the ID, which continues to exist.
_NOT_MEANT = "use_after_free"
# Its answer has no end, which schemathesis would wait for.
_ENDLESS = "/{id}/events"


def attempted(daemon: DaemonProcess, directory: Path, *options: str) -> str:
    """Return the output of schemathesis for a daemon."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"http://127.0.0.1:{daemon.port}/openapi.json",
        "--checks=all",
        f"--exclude-checks={_NOT_MEANT}",
        f"--exclude-path={_ENDLESS}",
        f"--request-timeout={PATIENCE}",
        "--max-examples=10",
        "--seed=1",
        "--continue-on-failure",
        "--no-shrink",
        "--suppress-health-check=all",
        "--no-color",
        *options,
    ]
    run = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=_SECONDS, stdin=subprocess.DEVNULL, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def operations(output: str, excluded: int = 1) -> int:
    """Return how many operations were tested; raises if it was not all but those excluded, such as
    the endless one.
    """
    found = re.search(r"Operations: +(\d+) selected / (\d+) total", output)
    assert found is not None, output
    assert int(found[1]) == int(found[2]) - excluded
    assert re.search(rf"Tested: {found[1]}\b", output), output
    return int(found[1])


def test_an_open_daemon_matches_its_document(start: Start, tmp_path: Path) -> None:
    daemon = start(tmp_path / "state")
    assert operations(attempted(daemon, tmp_path)) == 19
    assert daemon.complaints == []
    assert daemon.stderr == ""


def test_a_daemon_with_tokens_matches_its_document_and_answers_nothing_without(
    installed: Environment, start: Start, tmp_path: Path
) -> None:
    token = new(installed, tmp_path / "tokens", "ops", "--scope=admin")
    daemon = start(tmp_path / "state", f"--tokens={tmp_path / 'tokens'}")
    # A frozen daemon refuses all that is tried after that, and one that is not frozen an import for a freeze.
    excluded = [f"--exclude-path=/operator/{path}" for path in ("freeze", "import")]
    output = attempted(daemon, tmp_path, f"--header=Authorization: Bearer {token}", *excluded)
    assert operations(output, excluded=4) == 28
    assert daemon.complaints == []
    assert daemon.stderr == ""


@needs_etcd
def test_a_daemon_in_front_of_etcd_matches_its_document(installed: Environment, tmp_path: Path) -> None:
    with closing(RealEtcd(tmp_path)) as etcd:
        daemon = installed.start(*arguments(etcd.endpoints), run=DaemonProcess)
        try:
            daemon.wait_for("etcd is in use")
            assert operations(attempted(daemon, tmp_path)) == 19
            assert (daemon.complaints, daemon.stderr) == ([], "")
        finally:
            daemon.kill()
