"""The installed command `rqdisco` against the running daemon."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.support.process import PATIENCE, DaemonProcess, Environment

pytestmark = pytest.mark.process

_FULL = "cannot write the output: No space left on device"
A, B = "10.0.0.1:4001", "10.0.0.2:4001"

Ask = Callable[..., subprocess.CompletedProcess[str]]
Begin = Callable[..., subprocess.Popen[str]]


@contextmanager
def heeding_ctrl_c() -> Iterator[None]:
    """Start processes that do not ignore SIGINT, even if the tests run in the background of a
    script.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def ask(installed: Environment) -> Ask:
    """Runs the command to its end; it never prints a traceback."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        result = installed.run("rqdisco", *arguments, **environment)
        assert "Traceback" not in result.stderr
        return result

    return run


@pytest.fixture
def begin(installed: Environment) -> Iterator[Begin]:
    """Starts the command; it is killed if it still runs after the test."""
    with ExitStack() as stack:

        def start(
            *arguments: str, stdin: int = subprocess.DEVNULL, stdout: int = subprocess.PIPE
        ) -> subprocess.Popen[str]:
            with heeding_ctrl_c():
                process = subprocess.Popen(
                    installed.command("rqdisco", *arguments),
                    cwd="/",
                    text=True,
                    bufsize=1,
                    stdin=stdin,
                    stdout=stdout,
                    stderr=subprocess.PIPE,
                )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def url(daemon: DaemonProcess) -> str:
    return f"http://127.0.0.1:{daemon.port}"


@pytest.fixture
def deaf_url() -> Iterator[str]:
    """Return a URL where nobody listens, and nobody will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def until(process: subprocess.Popen[str], stream: str, end: str) -> str:
    """Return everything of a stream up to and including `end`."""
    text = ""
    source = getattr(process, stream)
    while not text.endswith(end):
        character = source.read(1)
        assert character, f"ended after {text!r}"
        text += character
    return text


def test_an_id_works_from_creation_to_reset(ask: Ask, url: str) -> None:
    discovery_id = ask("create", RQDISCO_URL=url).stdout.strip()
    assert ask("register", discovery_id, A, "--node-id", "n1", RQDISCO_URL=url).stdout == f"{A}\n"
    assert ask("--url", url, "register", discovery_id, B).stdout == f"{A}\n{B}\n"
    assert ask("nodes", discovery_id, "--format", "join", "--url", url).stdout == f"{A},{B}\n"
    assert ask("show", discovery_id, "--url", url).stdout == f"{A}\t-\tn1\t-\n{B}\t-\t-\t-\n"
    assert ask("remove", discovery_id, A, "--url", url).stdout == f"{B}\n"
    assert ask("status", discovery_id, "--url", url).returncode == 0
    assert ask("reset", discovery_id, "--yes", "--url", url).returncode == 0
    assert ask("status", discovery_id, "--url", url).stdout.startswith("health forming: ")


def test_a_refusal_of_the_service_is_status_1(ask: Ask, url: str) -> None:
    result = ask("show", "unknown", "--url", url)
    assert (result.returncode, result.stdout, result.stderr) == (
        1,
        "",
        "rqdisco: unknown does not exist yet: the first node in consul-kv mode creates it, or `rqdisco"
        " create --name unknown`\n",
    )


def test_a_command_line_that_cannot_be_parsed_is_status_2(ask: Ask) -> None:
    assert ask("show").returncode == 2
    assert ask("create", "--url", "nowhere").returncode == 2


def test_an_unreachable_service_is_status_3(ask: Ask, deaf_url: str, tmp_path: Path) -> None:
    for target, words in {
        deaf_url: "Connection refused",
        f"unix:{tmp_path}/none.sock": "No such file or directory",
    }.items():
        result = ask("status", "--url", target)
        assert (result.returncode, result.stdout) == (3, "")
        assert result.stderr.startswith(f"rqdisco: cannot reach {target}: {words}")


def test_a_missing_interface_is_status_3(ask: Ask) -> None:
    result = ask("status", "--url", "http://[fe80::1%25none]:1")
    assert (result.returncode, result.stdout) == (3, "")
    where = "http://[fe80::1%25none]:1"
    assert result.stderr == f"rqdisco: cannot reach {where}: no such network interface\n"


def test_a_node_can_wait_for_a_service_that_starts_after_it(begin: Begin, start: Start, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    waiting = begin("create", "--wait", "60", "--url", f"unix:{path}")
    assert "retrying for 60 s" in until(waiting, "stderr", "\n")
    daemon = start(tmp_path / "state", f"--listen=unix:{path}")
    output, errors = waiting.communicate(timeout=PATIENCE)
    assert (waiting.returncode, errors) == (0, "")
    assert daemon.nodes(output.strip()) == []


def test_all_ids_move_to_another_daemon_through_the_operator_sockets(ask: Ask, start: Start, tmp_path: Path) -> None:
    daemon = start(tmp_path / "old", f"--operator-socket={tmp_path}/old.sock")
    discovery_id = daemon.create_id()
    daemon.request("POST", f"/{discovery_id}", {"addr": A})
    file = str(tmp_path / "export.json")
    assert ask("export", "-o", file, "--url", f"unix:{tmp_path}/old.sock").returncode == 0
    assert ask("export", "--url", f"unix:{tmp_path}/old.sock").stdout == Path(file).read_text()
    daemon.kill()
    new = start(tmp_path / "new", f"--operator-socket={tmp_path}/new.sock")
    result = ask("import", "--adopt", file, "--url", f"unix:{tmp_path}/new.sock")
    assert (result.returncode, result.stdout) == (0, "imported 1\nunchanged 0\nrefused 0\n")
    assert new.nodes(discovery_id) == [A]


def test_a_migration_leaves_the_old_daemon_frozen_even_if_it_is_killed_and_started_again(
    ask: Ask, start: Start, tmp_path: Path
) -> None:
    old_socket, new_socket = (f"unix:{tmp_path}/{name}.sock" for name in ("old", "new"))
    old = start(tmp_path / "old", f"--operator-socket={tmp_path}/old.sock")
    discovery_id = old.create_id()
    new = start(tmp_path / "new", f"--operator-socket={tmp_path}/new.sock")
    moved = ask("migrate", "--from", old_socket, "--to", new_socket)
    assert (moved.returncode, moved.stdout) == (0, "")
    assert "moved 1 ID" in moved.stderr
    old.kill()
    old = start(tmp_path / "old", f"--operator-socket={tmp_path}/old.sock")
    refused = old.request("POST", f"/{discovery_id}", {"addr": A})
    assert (refused.status, "frozen for a migration to" in refused.document["error"]) == (503, True)
    assert old.nodes(discovery_id) == []
    assert new.request("POST", f"/{discovery_id}", {"addr": B}).status == 200
    assert new.nodes(discovery_id) == [B]
    assert ask("migrate", "--from", old_socket, "--to", new_socket, "--abort").returncode == 1
    assert new.nodes(discovery_id) == [B]


def test_large_exports_arrive_complete(ask: Ask, start: Start, tmp_path: Path) -> None:
    made = {"created_at": "2017-02-20 01:25:45", "nodes": [f"{'h' * 100}{number}:4001" for number in range(20)]}
    source = tmp_path / "documents"
    source.write_text("\n".join(json.dumps({"disco_id": f"id-{number}"} | made) for number in range(3000)))
    start(tmp_path / "state", f"--operator-socket={tmp_path}/o.sock")
    operator = f"unix:{tmp_path}/o.sock"
    assert ask("import", str(source), "--url", operator).stdout.startswith("imported 3000\n")
    document = json.loads(ask("export", "--url", operator).stdout)
    assert (document["count"], len(document["records"][2999]["nodes"])) == (3000, 20)


def test_the_public_address_exports_nothing_and_names_the_operator_socket(ask: Ask, url: str) -> None:
    result = ask("export", "--url", url)
    assert result.returncode == 1
    assert "--operator-socket" in result.stderr


def test_watch_receives_a_change_by_itself(begin: Begin, daemon: DaemonProcess, url: str) -> None:
    discovery_id = daemon.create_id()
    subscriptions = begin("watch", discovery_id, "--interval", "3600", "--url", url)
    for addr in (A, "10.0.0.2:4001"):
        daemon.request("POST", f"/{discovery_id}", {"addr": addr})
        assert until(subscriptions, "stdout", "\n") == f"+ {addr}\n"
    subscriptions.send_signal(signal.SIGINT)
    assert subscriptions.communicate(timeout=PATIENCE) == ("", "")


def test_watch_ends_quietly_by_ctrl_c(begin: Begin, daemon: DaemonProcess, url: str) -> None:
    discovery_id = daemon.create_id()
    daemon.request("POST", f"/{discovery_id}", {"addr": A})
    subscriptions = begin("watch", discovery_id, "--url", url)
    assert until(subscriptions, "stdout", "\n") == f"+ {A}\n"
    subscriptions.send_signal(signal.SIGINT)
    assert subscriptions.communicate(timeout=PATIENCE) == ("", "")
    assert subscriptions.returncode == 130


def test_watch_in_the_background_of_a_script_outlives_ctrl_c_and_ends_by_kill(
    installed: Environment, daemon: DaemonProcess, url: str
) -> None:
    discovery_id = daemon.create_id()
    daemon.request("POST", f"/{discovery_id}", {"addr": A})
    command = installed.command("rqdisco", "watch", discovery_id, "--url", url)
    # As a shell without job control starts it.
    script = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
    with subprocess.Popen(script, cwd="/", text=True, bufsize=1, stdout=subprocess.PIPE) as watching:
        assert until(watching, "stdout", "\n") == f"+ {A}\n"
        watching.send_signal(signal.SIGINT)
        daemon.request("POST", f"/{discovery_id}", {"addr": B})
        assert until(watching, "stdout", "\n") == f"+ {B}\n"
        watching.terminate()
        assert watching.wait(PATIENCE) == 130


def test_watch_ends_quietly_when_its_output_is_closed(begin: Begin, daemon: DaemonProcess, url: str) -> None:
    discovery_id = daemon.create_id()
    daemon.request("POST", f"/{discovery_id}", {"addr": A})
    subscriptions = begin("watch", discovery_id, "--interval", "0.1", "--url", url)
    assert until(subscriptions, "stdout", "\n") == f"+ {A}\n"
    assert subscriptions.stdout is not None
    assert subscriptions.stderr is not None
    subscriptions.stdout.close()
    assert subscriptions.wait(PATIENCE) == 141
    assert subscriptions.stderr.read() == ""


def test_output_that_cannot_be_written_is_reported_in_words(begin: Begin, url: str) -> None:
    with open("/dev/full", "w") as full:
        creating = begin("create", "--url", url, stdout=full.fileno())
        _, errors = creating.communicate(timeout=PATIENCE)
    assert (creating.returncode, errors) == (1, f"rqdisco: {_FULL}\n")


@pytest.mark.parametrize(
    "line",
    [["create"], ["status"], ["completion", "bash"], ["--help"], ["flags", "x", "--rqlite=8", "--mode=consul-kv"]],
)
def test_every_command_ends_alike_when_its_output_is_closed_or_full(begin: Begin, url: str, line: list[str]) -> None:
    reader, pipe = os.pipe()
    os.close(reader)
    with open(pipe, "w") as unread, open("/dev/full", "w") as full:
        for stdout, status, errors in ((unread, 141, ""), (full, 1, f"rqdisco: {_FULL}\n")):
            process = begin("--url", url, *line, stdout=stdout.fileno())
            assert process.communicate(timeout=PATIENCE)[1] == errors
            assert process.returncode == status


def test_a_stream_that_is_closed_or_full_changes_no_status(installed: Environment, url: str) -> None:
    def status(redirection: str, *line: str) -> int:
        command = installed.command("rqdisco", *line, "--url", url)
        shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command]
        return subprocess.run(shell, cwd="/", stderr=subprocess.PIPE, check=False).returncode

    assert status(">&-", "create") == 0
    assert status("2>&-", "show", "unknown") == 1
    assert status("2>/dev/full", "show", "unknown") == 1
    assert status("2>/dev/full", "show") == 2


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}]
)
def test_every_command_works_with_every_encoding_of_stdout(
    ask: Ask, daemon: DaemonProcess, url: str, environment: dict[str, str]
) -> None:
    discovery_id, addr = daemon.create_id(), "节点.example:4001"
    result = ask("register", discovery_id, addr, "--url", url, **environment)
    assert result.returncode == 0
    assert result.stdout in (f"{addr}\n", f"{addr.encode('ascii', 'backslashreplace').decode()}\n")
    assert daemon.nodes(discovery_id) == [addr]


@pytest.mark.parametrize(("answer", "status", "left"), [("n\n", 1, [A]), ("y\n", 0, []), ("\x04", 130, [A])])
def test_the_last_node_is_only_removed_after_a_yes_at_the_terminal(
    begin: Begin, daemon: DaemonProcess, url: str, answer: str, status: int, left: list[str]
) -> None:
    discovery_id = daemon.create_id()
    daemon.request("POST", f"/{discovery_id}", {"addr": A})
    keyboard, terminal = pty.openpty()
    try:
        removing = begin("remove", discovery_id, A, "--url", url, stdin=terminal)
        assert "is told to bootstrap" in until(removing, "stderr", "[y/N]: ")
        os.write(keyboard, answer.encode())
        assert removing.wait(PATIENCE) == status
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert daemon.nodes(discovery_id) == left


def test_bash_accepts_the_completion_script(ask: Ask) -> None:
    script = ask("completion", "bash").stdout
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
