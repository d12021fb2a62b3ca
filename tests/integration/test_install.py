"""An installation of the project: commands that find rqdisco, wherever they are run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.process import Environment, copy_sources, install_wheel

pytestmark = pytest.mark.process

COMMANDS = ("twistd", "twist")


def lists_rqdisco(environment: Environment, command: str) -> bool:
    """Report whether the help of `command` lists our service; there must be no error on the way."""
    result = environment.run(command, "--help")
    assert result.returncode == 0, result
    assert "Traceback" not in result.stdout + result.stderr
    return any(line.split()[:1] == ["rqdisco"] for line in result.stdout.splitlines())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_wheel_is_found_from_any_directory(installed: Environment, command: str) -> None:
    assert lists_rqdisco(installed, command)


def test_twistd_explains_the_options(installed: Environment) -> None:
    result = installed.run("twistd", "rqdisco", "--help")
    assert result.returncode == 0
    for option in ("--listen=", "--data-dir=", "--retry-window=", "--snapshot-every=", "--strict-addresses"):
        assert option in result.stdout


def test_twist_serves_requests(installed: Environment, tmp_path: Path) -> None:
    options = (f"--data-dir={tmp_path / 'state'}", "--listen=tcp:0:interface=127.0.0.1")
    daemon = installed.start("twist", "rqdisco", *options)
    try:
        discovery_id = daemon.create_id()
        reply = daemon.request("POST", f"/{discovery_id}", {"addr": "10.0.0.1:4001"})
        assert reply.document["nodes"] == ["10.0.0.1:4001"]
        assert daemon.terminate() == -15
    finally:
        daemon.kill()


def test_environment_variables_configure_like_options(installed: Environment, tmp_path: Path) -> None:
    daemon = installed.start(
        "twistd",
        "--nodaemon",
        "--pidfile=",
        "rqdisco",
        RQDISCO_LISTEN="tcp:0:interface=127.0.0.1 tcp:0:interface=127.0.0.1",
        STATE_DIRECTORY=str(tmp_path / "state"),
    )
    try:
        assert len(daemon.wait_for("listening")["endpoints"]) == 2
        assert (tmp_path / "state" / "identity.json").exists()
    finally:
        daemon.kill()


def test_an_editable_install_is_found(tmp_path: Path) -> None:
    sources = copy_sources(tmp_path / "sources")
    environment = Environment(tmp_path / "environment")
    compat = ("--config-settings", "editable_mode=compat")
    environment.pip("install", "--no-deps", "--no-build-isolation", *compat, "--editable", str(sources))
    for command in COMMANDS:
        assert lists_rqdisco(environment, command)


def test_uninstalling_removes_only_our_files(tmp_path: Path) -> None:
    environment = install_wheel(tmp_path)
    plugins = environment.packages / "twisted" / "plugins"
    foreign = plugins / "foreign_plugin.py"
    foreign.write_text("")
    assert (plugins / "rqdisco_plugin.py").exists()
    environment.pip("uninstall", "--yes", "rqdisco")
    assert foreign.exists()
    assert not (plugins / "rqdisco_plugin.py").exists()
    assert not (environment.packages / "rqdisco").exists()


def test_the_wheel_holds_the_units_that_systemd_install_writes(installed: Environment, tmp_path: Path) -> None:
    # The test's environment sees Twisted, but holds none of its scripts.
    twistd = installed.python.with_name("twistd")
    twistd.touch(mode=0o755)
    plugins = installed.packages / "twisted" / "plugins" / "dropin.cache"
    plugins.unlink(missing_ok=True)
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    result = installed.run("rqdisco", "systemd", "install", "--user", **home)
    assert result.returncode == 0, result
    unit = (tmp_path / "systemd/user/rqdisco.service").read_text()
    assert f"ExecStart={twistd} --nodaemon --pidfile= rqdisco\n" in unit
    # The service cannot write this list itself.
    assert plugins.exists()
