"""`rqdisco serve` as a user runs it: a process that says where it listens, and stops like twistd's."""

from __future__ import annotations

import json
import signal
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support.process import ANY_PORT, PATIENCE, Environment

pytestmark = pytest.mark.process


def test_it_prints_the_real_ports_and_the_data_directory_and_answers_there(
    installed: Environment, tmp_path: Path
) -> None:
    daemon = installed.start(
        "rqdisco", "serve", f"--listen={ANY_PORT}", f"--listen={ANY_PORT}", STATE_DIRECTORY=str(tmp_path / "state")
    )
    try:
        ports = [int(address.rpartition(":")[2]) for address in daemon.wait_for("listening")["endpoints"]]
        assert daemon.create_id()
        *urls, directory = daemon.stderr.splitlines()
        assert urls == [f"Listening on http://127.0.0.1:{port} (open this in a browser)" for port in ports]
        assert directory == f"Data directory: {tmp_path / 'state'}"
        assert daemon.terminate() == -signal.SIGTERM
    finally:
        daemon.kill()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_drains_as_under_twistd(installed: Environment, tmp_path: Path, stop: signal.Signals) -> None:
    daemon = installed.start(
        "rqdisco", "serve", f"--listen={ANY_PORT}", f"--data-dir={tmp_path / 'state'}", "--drain-timeout=0.2"
    )
    try:
        connection = HTTPConnection("127.0.0.1", daemon.port, timeout=PATIENCE)
        connection.request("GET", "/readyz")
        assert connection.getresponse().read()
        daemon.process.send_signal(stop)
        daemon.wait_for("draining before stop")
        connection.request("GET", "/readyz")
        assert connection.getresponse().status == 503
        connection.close()
        assert daemon.process.wait(PATIENCE) == -stop
    finally:
        daemon.kill()


def test_its_refusals_have_the_texts_and_statuses_of_twistd(installed: Environment, tmp_path: Path) -> None:
    state = f"--data-dir={tmp_path / 'state'}"
    for options, status in ((["--max-ids=x"], 64), (["--listen=tcp:0"], 64), (["--listen=nonsense:1"], 64)):
        served = installed.run("rqdisco", "serve", state, *options)
        under_twistd = installed.run("twistd", "--nodaemon", "--pidfile=", "rqdisco", state, *options)
        assert (served.returncode, under_twistd.returncode) == (status, status)
        assert served.stderr == under_twistd.stderr.replace("twistd rqdisco", "rqdisco serve")


def test_a_refusal_names_the_misspelled_variable_that_caused_it(installed: Environment, tmp_path: Path) -> None:
    for options, reason in ((["--listen=tcp:0"], "no token is required"), (["--probe=15"], "requires --probe-allow")):
        refused = installed.run("rqdisco", "serve", f"--data-dir={tmp_path}/state", *options, RQDISCO_TOKNES="/tokens")
        assert refused.returncode == 64
        (line,) = refused.stderr.splitlines()
        assert reason in line
        assert "RQDISCO_TOKNES is not a variable of rqdisco; did you mean RQDISCO_TOKENS?" in line


def test_two_daemons_on_one_directory_are_refused_in_words(installed: Environment, tmp_path: Path) -> None:
    command = ("rqdisco", "serve", f"--listen={ANY_PORT}", f"--data-dir={tmp_path}")
    daemon = installed.start(*command)
    try:
        second = installed.run(*command)
        assert second.returncode == 78
        assert "another rqdisco runs on this directory; stop it, or use another one" in second.stderr
        assert "Listening on" not in second.stderr
        assert daemon.create_id()
    finally:
        daemon.kill()


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_log_has_the_format_and_level_that_are_asked_for(installed: Environment, tmp_path: Path, form: str) -> None:
    # An empty token file is a warning, and an address of another machine ends the daemon.
    (tmp_path / "tokens").touch(mode=0o600)
    settings = f'tokens = "{tmp_path}/tokens"\ndata-dir = "{tmp_path}/state"\nlisten = ["tcp:0:interface=192.0.2.1"]\n'
    (tmp_path / "rqdisco.toml").write_text(f'log-level = "warn"\nlog-format = "{form}"\n{settings}')
    ended = installed.run("rqdisco", "serve", f"--config={tmp_path}/rqdisco.toml")
    assert ended.returncode == 69
    (line,) = ended.stdout.splitlines()
    assert "the token file is empty" in (json.loads(line)["event"] if form == "json" else line)


def test_a_log_of_twisteds_own_cannot_have_a_format(installed: Environment, tmp_path: Path) -> None:
    command = ("--pidfile=", f"--logfile={tmp_path}/log", "rqdisco", f"--data-dir={tmp_path}/state")
    ended = installed.run("twistd", "--nodaemon", *command, "--log-format=text")
    assert ended.returncode == 64
    assert "log-format: requires twistd --nodaemon, and none of its options --logger" in ended.stderr
