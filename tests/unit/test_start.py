"""Requirements of a start, before anything else."""

from __future__ import annotations

import subprocess
import sys

_START = """
import sys
sys.modules["httptools"] = None
from rqdisco import tap
options = tap.Options()
options.parseOptions(["--data-dir", "/nonexistent"])
tap.makeService(options)
"""


def test_without_the_http_parser_the_daemon_refuses_to_start_in_one_line_that_says_how_to_get_it() -> None:
    end = subprocess.run([sys.executable, "-c", _START], capture_output=True, text=True, check=False)
    assert end.returncode == 69
    assert end.stdout == ""
    (line,) = end.stderr.splitlines()
    assert line.startswith("rqdisco: httptools, the HTTP parser, cannot be imported")
    assert line.endswith(f"install it: {sys.executable} -m pip install 'httptools>=0.9,<0.10'")


_MODULES = """
import sys
import rqdisco.tap, rqdisco.service.wiring.daemon
names = ("rqdisco.backends.etcd", "rqdisco.backends.gossip", "treq")
print(*[name for name in sys.modules if name.startswith(names)])
"""


def test_the_modules_of_other_backends_are_not_loaded_by_a_daemon_that_needs_none_of_them() -> None:
    end = subprocess.run([sys.executable, "-c", _MODULES], capture_output=True, text=True, check=True)
    assert end.stdout == "\n"
