"""The daemon as its users run it: installed from a wheel, in a separate process, used through
sockets.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
# A test waits this long for what happens at once on an idle machine.
PATIENCE = 120.0
ANY_PORT = "tcp:0:interface=127.0.0.1"

# Caused by clients, even by a test that writes whatever it likes under a leader key.
_OF_CLIENTS = "two clusters under one ID"
_SOURCES = ("rqdisco", "twisted", "setup.py", "pyproject.toml", "README.md", "LICENSE")
_NOT_INHERITED = ("RQDISCO_", "PYTHON", "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_")
_FIND_SCRIPT = (
    "from importlib.metadata import entry_points as e; print(next(iter(e(group='console_scripts', name='{}'))).value)"
)


@dataclass(frozen=True)
class Reply:
    """One HTTP answer."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


def ask(connection: HTTPConnection, method: str, path: str, document: object = None) -> Reply:
    """Send one request, with `document` as JSON if there is one, and wait for its answer."""
    connection.request(method, path, None if document is None else json.dumps(document).encode())
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, response.reason, headers, response.read())


def parse_replies(data: bytes) -> list[Reply]:
    """Parse everything that a server sent on one connection; an answer without a length reaches to
    the end.
    """
    replies = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        _, status, reason = status_line.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", len(rest)))
        replies.append(Reply(int(status), reason, headers, rest[:size]))
        data = rest[size:]
    return replies


class DaemonProcess:
    """A daemon that listens. Its log is read all the time, so that it never blocks. It inherits the
    descriptors `pass_fds`.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], *, pass_fds: Sequence[int] = ()) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115, read as long as there is a test
        self.process = subprocess.Popen(
            command,
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            pass_fds=pass_fds,
        )
        self.events: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._log_ended = False
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        try:
            self.port = int(self.wait_for("listening")["endpoints"][0].rpartition(":")[2])
        except BaseException:
            self.kill()
            raise

    @property
    def stderr(self) -> str:
        """Everything that was written to stderr so far."""
        return os.pread(self._stderr.fileno(), 1 << 20, 0).decode()

    @property
    def complaints(self) -> list[dict[str, Any]]:
        """The events that report a fault of the daemon itself, and not of its clients."""
        return [
            event
            for event in list(self.events)
            if event.get("level") in ("error", "critical") and not event["event"].startswith(_OF_CLIENTS)
        ]

    def wait_for(self, name: str, since: int = 0, **fields: object) -> dict[str, Any]:
        """Return the first event of this name and with these fields, except for the first `since`
        events; it may be logged already.
        """
        wanted = {"event": name, **fields}

        def found() -> list[dict[str, Any]]:
            return [event for event in self.events[since:] if event.items() >= wanted.items()]

        with self._news:
            self._news.wait_for(lambda: found() or self._log_ended, PATIENCE)
            assert found(), f"no {wanted}, but {self.events[since:]}, stderr: {self.stderr}"
            return found()[0]

    def connect(self) -> HTTPConnection:
        """Return a separate connection, to be kept alive."""
        return HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def request(self, method: str, path: str, document: object = None) -> Reply:
        """Send one request over a separate connection."""
        connection = self.connect()
        try:
            return ask(connection, method, path, document)
        finally:
            connection.close()

    def create_id(self) -> str:
        """Create a discovery ID."""
        discovery_id: str = self.request("POST", "/").document["disco_id"]
        return discovery_id

    def nodes(self, discovery_id: str) -> list[str]:
        """Return the registered addresses."""
        reply = self.request("GET", f"/{discovery_id}")
        assert reply.status == 200, reply
        nodes: list[str] = reply.document["nodes"]
        return nodes

    def kill(self) -> None:
        """Send SIGKILL; nothing is flushed or logged any more."""
        self.process.kill()
        self._wait()

    def terminate(self) -> int:
        """Send SIGTERM; return the exit status of the process."""
        self.process.send_signal(signal.SIGTERM)
        return self._wait()

    def _wait(self) -> int:
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                event = _parse(line)
                with self._news:
                    self.events.append(event)
                    self._news.notify_all()
        with self._news:
            self._log_ended = True
            self._news.notify_all()


def _parse(line: bytes) -> dict[str, Any]:
    """Parse one event, as rqdisco's own observer writes it or as twist's does."""
    try:
        event: dict[str, Any] = json.loads(line.lstrip(b"\x1e"))
    except ValueError:
        return {"level": "error", "event": f"not JSON: {line!r}"}
    if "log_format" in event:
        event = {**event, "event": event["log_format"], "level": event["log_level"]["name"]}
    return event


Run = Callable[[Sequence[str], Mapping[str, str]], DaemonProcess]


class Environment:
    """A fresh virtual environment that sees the packages beside the running tests."""

    def __init__(self, directory: Path, wheel: Path | None = None) -> None:
        _succeed(sys.executable, "-m", "venv", "--without-pip", str(directory))
        self.directory = directory
        self._scripts: dict[str, str] = {}
        # What was installed into it, if that is a wheel.
        self.wheel = wheel
        self.python = directory / "bin" / "python"
        self.packages = Path(_succeed(str(self.python), "-c", "import sysconfig as s; print(s.get_path('purelib'))"))
        beside = dict.fromkeys(map(sysconfig.get_path, ("purelib", "platlib")))
        (self.packages / "dependencies.pth").write_text("".join(f"{path}\n" for path in beside))

    def pip(self, *arguments: str) -> None:
        """Run the pip of the running tests on this environment."""
        _succeed(sys.executable, "-m", "pip", "--python", str(self.python), *arguments)

    def command(self, script: str, *arguments: str) -> list[str]:
        """Return what runs a console script, which exists only where it was installed, not where
        its package is visible.
        """
        if script not in self._scripts:
            self._scripts[script] = _succeed(str(self.python), "-c", _FIND_SCRIPT.format(script))
        module, _, function = self._scripts[script].partition(":")
        return [str(self.python), "-c", f"import {module} as module; module.{function}()", *arguments]

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a console script to its end, from the root directory."""
        return subprocess.run(
            self.command(script, *arguments),
            cwd="/",
            env=_inherited() | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def twistd(self, state: Path, *options: str, listen: str = ANY_PORT) -> tuple[str, ...]:
        """Return the arguments that run the daemon on the directory `state`."""
        return ("twistd", "--nodaemon", "--pidfile=", "rqdisco", f"--data-dir={state}", f"--listen={listen}", *options)

    def start(self, *arguments: str, run: Run = DaemonProcess, **environment: str) -> DaemonProcess:
        """Start a daemon, by `run` if it is to be elsewhere; return when it listens."""
        return run(self.command(*arguments), _inherited() | environment)


def copy_sources(to: Path) -> Path:
    """Return a copy of the sources of the project, because a build leaves files in its tree."""
    to.mkdir()
    for name in _SOURCES:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
        else:
            shutil.copy(source, to)
    return to


def install_wheel(directory: Path, version: str | None = None) -> Environment:
    """Return a fresh environment into which a wheel of the project was installed, with another
    `version` if one is given.
    """
    sources = copy_sources(directory / "sources")
    if version is not None:
        (sources / "rqdisco" / "__init__.py").write_text(f'"""An older release."""\n\n__version__ = "{version}"\n')
    build = ("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(directory))
    _succeed(sys.executable, *build, str(sources))
    (wheel,) = directory.glob("rqdisco-*.whl")
    environment = Environment(directory / "environment", wheel)
    # Forced, because the running tests may see another copy of the same version.
    environment.pip("install", "--no-deps", "--force-reinstall", str(wheel))
    found = _succeed(str(environment.python), "-c", "import rqdisco; print(rqdisco.__file__)")
    assert Path(found).is_relative_to(environment.packages), f"{found} is not what was installed"
    return environment


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}


def _succeed(*command: str) -> str:
    result = subprocess.run(command, cwd="/", env=_inherited(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout.strip()
