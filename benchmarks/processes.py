"""The processes that are measured: starting them, looking at what they use, ending them."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

HOST = "127.0.0.1"
_POLL_SECONDS = 0.0005
_TICKS = os.sysconf("SC_CLK_TCK")


class BenchmarkFailed(Exception):
    """A figure would not mean what it says; the text tells why."""


class Client:
    """One keep-alive connection."""

    def __init__(self, host: str, port: int) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=30)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The JSON that comes back. Raises BenchmarkFailed unless it comes with 200."""
        self._connection.request(method, path, None if body is None else json.dumps(body))
        response = self._connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise BenchmarkFailed(f"{method} {path}: {response.status} {response.reason}")
        return json.loads(content)

    def close(self) -> None:
        self._connection.close()


class Process:
    """A daemon in a process of its own, run in `directory`, with what it prints in a file there.

    A context manager, at the end of which it is gone.
    """

    def __init__(self, command: list[str], directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._log = directory / "log"
        self._read = 0
        self.started = time.monotonic()
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                command, cwd=directory, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def cpu_seconds(self) -> float:
        """What all its threads have used so far, in user and kernel mode; not what its children have."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_bytes(self) -> int:
        """VmRSS."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise BenchmarkFailed("a process without VmRSS")

    def check_running(self, since: float, seconds: float) -> None:
        """Raise BenchmarkFailed if the process is gone, or `seconds` have passed since the moment `since`."""
        status = self._process.poll()
        if status is not None or time.monotonic() - since > seconds:
            why = "takes too long" if status is None else f"ended with {status}"
            raise BenchmarkFailed(f"{self._process.args!r} {why}: {self._log.read_text(errors='replace')[-2000:]}")

    def wait_for_event(self, name: str, seconds: float = 120.0) -> dict[str, Any]:
        """The next event of that name in the log of JSON lines."""
        since, needle = time.monotonic(), f'"event":"{name}"'.encode()
        with self._log.open("rb") as log:
            while True:
                log.seek(self._read)
                for line in log:
                    if not line.endswith(b"\n"):
                        break
                    self._read += len(line)
                    if needle in line:
                        event: dict[str, Any] = json.loads(line)
                        return event
                self.check_running(since, seconds)
                time.sleep(_POLL_SECONDS)


class Rqdisco(Process):
    """The daemon on the state in `data_dir`; it listens where `address` says, when that is known."""

    def __init__(self, data_dir: Path, directory: Path, *options: str) -> None:
        twistd = [str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile="]
        here = ["--listen", f"tcp:0:interface={HOST}", "--data-dir", str(data_dir)]
        super().__init__([*twistd, "rqdisco", *here, *options], directory)

    def address(self) -> tuple[str, int]:
        """Host and port, as soon as it listens."""
        host, _, port = self.wait_for_event("listening")["endpoints"][0].rpartition(":")
        return host, int(port)

    def dns_port(self) -> int:
        """The port for DNS questions, as soon as it listens; in place of `address`."""
        return int(self.wait_for_event("listening")["dns"][0].rpartition(":")[2])


class Etcd(Process):
    """An etcd of one member, with an empty data directory under `directory`."""

    def __init__(self, directory: Path) -> None:
        self._host, self._port, peer = HOST, _free_port(), f"http://{HOST}:{_free_port()}"
        client = f"http://{self._host}:{self._port}"
        options = {
            "data-dir": str(directory / "data"),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "logger": "zap",
            "log-level": "error",
        }
        super().__init__(["etcd", *(f"--{name}={value}" for name, value in options.items())], directory)

    def address(self) -> tuple[str, int]:
        """Host and port, as soon as it is healthy."""
        since = time.monotonic()
        while True:
            client = Client(self._host, self._port)
            try:
                if client.ask("GET", "/health") == {"health": "true"}:
                    return self._host, self._port
            except (OSError, http.client.HTTPException, BenchmarkFailed):
                pass
            finally:
                client.close()
            self.check_running(since, 60.0)
            time.sleep(0.05)


class Dnsmasq(Process):
    """A dnsmasq that answers from the files `config` and `hosts` alone, and asks nobody else."""

    def __init__(self, directory: Path, config: Path, hosts: Path, ttl: int) -> None:
        self.port = _free_port()
        files = ["-C", str(config), "--no-resolv", "--no-hosts", f"--addn-hosts={hosts}"]
        where = ["--bind-interfaces", f"--listen-address={HOST}", f"--port={self.port}"]
        command = [program("dnsmasq"), "--no-daemon", *files, *where, f"--local-ttl={ttl}"]
        super().__init__(command, directory)


def program(name: str) -> str:
    """Where the program is, its name if it is not found; Debian's users have no /usr/sbin in their PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin") or name


def is_installed(*names: str) -> bool:
    """Whether all those programs are found."""
    return all(shutil.which(program(name)) for name in names)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port
