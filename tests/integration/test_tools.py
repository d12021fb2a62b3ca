"""The wheel, installed by pipx and by uv as a tool of its own: the command and its completions.

Both take the dependencies from the package index.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from rqdisco import __version__
from tests.support.process import Environment

pytestmark = pytest.mark.process

# Enough for a slow index.
PATIENCE = 300
TOOLS = {
    "pipx": ["pipx", "install", "--python", sys.executable],
    "uv": ["uv", "tool", "install", "--python", sys.executable],
}
COMPLETES = {
    "bash": 'eval "$(rqdisco completion bash)" && complete -p rqdisco',
    "sh": "rqdisco completion zsh && rqdisco completion fish",
}


def run(*command: str, variables: Mapping[str, str]) -> str:
    """Return what a command that succeeds prints."""
    result = subprocess.run(
        command,
        cwd="/",
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


@pytest.mark.parametrize("tool", TOOLS)
def test_the_command_and_its_completions_work_from_a_tools_own_environment(
    installed: Environment, tmp_path: Path, tool: str
) -> None:
    binaries = tmp_path / "bin"
    variables = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": f"{binaries}:/usr/bin:/bin",
        "PIPX_HOME": str(tmp_path / "pipx"),
        "PIPX_BIN_DIR": str(binaries),
        "UV_TOOL_DIR": str(tmp_path / "uv"),
        "UV_TOOL_BIN_DIR": str(binaries),
        "UV_CACHE_DIR": str(tmp_path / "cache"),
    }
    run(sys.executable, "-m", *TOOLS[tool], str(installed.wheel), variables=variables)
    # Its own packages, not those of the running tests.
    variables.pop("PYTHONPATH", None)
    assert [path.name for path in binaries.iterdir()] == ["rqdisco"], "no command of a dependency"
    assert run("rqdisco", "--version", variables=variables) == f"rqdisco {__version__}\n"
    assert "-disco-mode=consul-kv" in run(
        "rqdisco", "flags", "orders", "--rqlite", "10", "--mode", "consul-kv", variables=variables
    )
    for shell, script in COMPLETES.items():
        assert "rqdisco" in run(shell, "-c", script, variables=variables)
