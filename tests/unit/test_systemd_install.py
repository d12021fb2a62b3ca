"""`rqdisco systemd install`: the units and completions it writes, and what it leaves alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rqdisco.cli.main import main
from rqdisco.cli.systemd_units import ETCD_UNITS, UNITS, CannotInstall, Installation, Scope, plan, unit

DEPLOYED = Path(__file__).parents[2] / "deploy" / "systemd"
TWISTD = Path("/opt/pipx/venvs/rqdisco/bin/twistd")

Install = Callable[..., tuple[int, str, str]]


@pytest.fixture(name="install")
def install_for_user(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Install:
    """Run `rqdisco systemd install` with a home of its own; return status, stdout and stderr."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)

    def run(*options: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["systemd", "install", *options])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def paths(scope: Scope, **environment: str) -> list[str]:
    planned = plan(scope, Installation(TWISTD, (TWISTD,)), environment, lambda shell: shell)
    return [str(each.path) for each in planned]


def test_the_files_are_where_systemd_and_the_shells_look_for_them() -> None:
    assert paths("system") == [
        "/etc/systemd/system/rqdisco.service",
        "/etc/systemd/system/rqdisco.socket",
        "/usr/local/share/bash-completion/completions/rqdisco",
        "/usr/local/share/zsh/site-functions/_rqdisco",
        "/usr/local/share/fish/vendor_completions.d/rqdisco.fish",
    ]
    assert paths("user", HOME="/h") == [
        "/h/.config/systemd/user/rqdisco.service",
        "/h/.config/systemd/user/rqdisco.socket",
        "/h/.local/share/bash-completion/completions/rqdisco",
        "/h/.local/share/zsh/site-functions/_rqdisco",
        "/h/.config/fish/completions/rqdisco.fish",
    ]
    assert paths("user", HOME="/h", XDG_CONFIG_HOME="/c", XDG_DATA_HOME="/d")[0] == "/c/systemd/user/rqdisco.service"


@pytest.mark.parametrize("name", [*UNITS, *ETCD_UNITS])
def test_the_units_of_the_system_are_those_of_deploy_with_the_program_of_this_installation(name: str) -> None:
    deployed = (DEPLOYED / name).read_text()
    assert unit(name, "system", TWISTD) == deployed.replace("/opt/rqdisco/bin/twistd", str(TWISTD))


def test_the_path_of_the_program_is_quoted_for_systemd() -> None:
    text = unit("rqdisco.service", "user", Path('/a b/100%/"/twistd'))
    assert 'ExecStart="/a b/100%%/\\"/twistd" --nodaemon --pidfile= rqdisco\n' in text


@pytest.mark.parametrize("name", [*UNITS, *ETCD_UNITS])
def test_the_units_of_a_user_ask_for_nothing_that_his_manager_cannot_do(name: str) -> None:
    text = unit(name, "user", TWISTD)
    for privileged in ("DynamicUser", "ProtectSystem", "PrivateTmp", "CapabilityBoundingSet", "multi-user.target"):
        assert privileged not in text
    assert "NoNewPrivileges=yes" in text or name.endswith(".socket")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("scope", ["user", "system"])
def test_systemd_finds_nothing_wrong_with_them(scope: Scope, tmp_path: Path) -> None:
    written = [tmp_path / name for name in (*UNITS, *ETCD_UNITS)]
    for path in written:
        path.write_text(unit(path.name, scope, Path(sys.executable)))
    command = ["systemd-analyze", f"--{scope}", "verify", *map(str, written)]
    # Where the manager of a user has its directory.
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    verified = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


@pytest.mark.parametrize("hidden", ["/home/ann/.local/bin/twistd", "/root/x/twistd", "/tmp/venv/bin/twistd"])
def test_the_system_refuses_an_installation_that_its_service_cannot_read(hidden: str) -> None:
    installation = Installation(TWISTD, (TWISTD, Path(hidden)))
    with pytest.raises(CannotInstall, match="the service of the system cannot read it; install rqdisco outside of"):
        plan("system", installation, {}, lambda shell: shell)
    assert plan("user", installation, {"HOME": "/h"}, lambda shell: shell)


def test_it_says_each_path_that_it_writes_and_what_to_do_next(install: Install, tmp_path: Path) -> None:
    status, out, err = install("--user")
    assert status == 0
    said = [line.removesuffix(": written") for line in out.splitlines()]
    assert sorted(said) == sorted(str(path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(said) == 5
    assert "systemctl --user enable --now rqdisco.service" in err
    program = (tmp_path / ".config/systemd/user/rqdisco.service").read_text().partition("ExecStart=")[2].split()[0]
    assert Path(program).name == "twistd"
    assert "rqdisco" in (tmp_path / ".local/share/bash-completion/completions/rqdisco").read_text()
    assert [line.rpartition(": ")[2] for line in install("--user")[1].splitlines()] == ["unchanged"] * 5


def test_a_dry_run_prints_the_files_and_writes_none(install: Install, tmp_path: Path) -> None:
    status, out, _ = install("--user", "--dry-run", "--etcd")
    assert status == 0
    assert f"# {tmp_path}/.config/systemd/user/rqdisco-etcd.service\n" in out
    assert "Environment=RQDISCO_ETCD=http://127.0.0.1:2379" in out
    assert list(tmp_path.iterdir()) == []


def test_a_changed_unit_is_only_replaced_by_force(install: Install, tmp_path: Path) -> None:
    changed = tmp_path / ".config/systemd/user/rqdisco.socket"
    changed.parent.mkdir(parents=True)
    changed.write_text("[Socket]\nListenStream=80\n")
    status, out, err = install("--user")
    assert (status, out) == (1, "")
    assert err == f"Error: {changed}: exists with another content; replace it with --force\n"
    assert changed.read_text() == "[Socket]\nListenStream=80\n"
    assert list(changed.parent.iterdir()) == [changed]
    assert f"{changed}: replaced" in install("--user", "--force")[1]


def test_a_directory_that_cannot_be_written_is_named(install: Install, tmp_path: Path) -> None:
    (tmp_path / ".config").touch()
    status, _, err = install("--user")
    assert status == 1
    assert err.startswith(f"Error: {tmp_path}/.config")


def test_one_must_say_for_whom(install: Install) -> None:
    status, _, err = install()
    assert status == 2
    assert "choose --user or --system" in err
