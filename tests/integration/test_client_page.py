"""The examples in docs/client.md, as they stand there, against the running daemon."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.client_reference import PAGE
from tests.support.process import PATIENCE, DaemonProcess

pytestmark = pytest.mark.process

EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
A = "10.0.0.1:4001"


def run(example: str, daemon: DaemonProcess, tmp_path: Path) -> str:
    """Return what an example prints."""
    script = tmp_path / "example.py"
    script.write_text(example.replace("127.0.0.1:4000", f"127.0.0.1:{daemon.port}"))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_plain_python_registers_and_lists_nodes_in_ten_lines(daemon: DaemonProcess, tmp_path: Path) -> None:
    registering, listing, _ = EXAMPLES
    assert max(len(each.splitlines()) for each in (registering, listing)) <= 10
    assert daemon.request("PUT", "/orders").status == 201
    assert run(registering, daemon, tmp_path) == "bootstrap\n"
    assert run(registering.replace(A, "10.0.0.2:4001").replace("n1", "n2"), daemon, tmp_path).startswith("join [")
    assert run(listing, daemon, tmp_path).splitlines()[0] == f"{A} 10.0.0.1:4002 None"


def test_the_library_registers_a_node_and_says_what_is_refused(daemon: DaemonProcess, tmp_path: Path) -> None:
    assert run(EXAMPLES[2], daemon, tmp_path) == f"('{A}',)\n404 unknown does not exist\n"
