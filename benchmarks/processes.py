"""The measured processes: start them, measure their resources, end them."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Protocol, Self

HOST = "127.0.0.1"
_POLL_SECONDS = 0.0005
_TICKS = os.sysconf("SC_CLK_TCK")


class BenchmarkFailed(Exception):
    """A figure would be misleading; the text says why."""


class Client:
    """One keep-alive connection."""

    def __init__(self, host: str, port: int) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=30)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return the JSON of the answer. Raises BenchmarkFailed unless it has status 200."""
        return self.send(method, path, None if body is None else json.dumps(body))

    def send(self, method: str, path: str, body: str | bytes | None) -> Any:
        """Send a body as it is; else as `ask`."""
        self.start(method, path, body)
        return self.finish(f"{method} {path}")

    def start(self, method: str, path: str, body: str | bytes | None) -> None:
        """Send a request whose answer `finish` returns."""
        self._connection.request(method, path, body)

    def finish(self, what: str) -> Any:
        """Return the JSON of the answer. Raises BenchmarkFailed unless it has status 200."""
        response = self._connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise BenchmarkFailed(f"{what}: {response.status} {response.reason}")
        return json.loads(content)

    def close(self) -> None:
        self._connection.close()


def raw_answer(host: str, port: int, request: bytes) -> bytes:
    """Return the bytes of the answer to one request, its head included."""
    with socket.create_connection((host, port), timeout=30) as connection:
        connection.sendall(request)
        received = b""
        while True:
            data = connection.recv(1 << 16)
            received += data
            head, end, body = received.partition(b"\r\n\r\n")
            if not data:
                raise BenchmarkFailed(f"{request!r} was not answered, but: {received!r}")
            if end and len(body) == int(head.lower().partition(b"\r\ncontent-length:")[2].split()[0]):
                return received


def busy_seconds() -> float:
    """Return how long the cores of this machine have been busy since it started, all together."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9])
    return (user + nice + system + sum(interrupts)) / _TICKS


def own_cpu_seconds() -> float:
    """Return the CPU time of this process and of all its children that have ended."""
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system


class Measured(Protocol):
    """One or more processes whose resources are measured."""

    def cpu_seconds(self) -> float:
        """Return the CPU time of all of them so far."""


class Process:
    """A daemon in a separate process, run in `directory`, with its output in a file there.

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

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Report whether it has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        self._process.kill()
        self._process.wait()

    def events(self) -> list[dict[str, Any]]:
        """Return all lines of the log so far."""
        with self._log.open("rb") as log:
            return [json.loads(line) for line in log if line.startswith(b"{") and line.endswith(b"}\n")]

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its threads so far, in user and kernel mode, without its
        children.
        """
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_bytes(self) -> int:
        """Return VmRSS."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise BenchmarkFailed("a process without VmRSS")

    def check_running(self, since: float, seconds: float) -> None:
        """Raise BenchmarkFailed if the process is gone, or `seconds` have passed since the moment
        `since`.
        """
        status = self._process.poll()
        if status is not None or time.monotonic() - since > seconds:
            why = "takes too long" if status is None else f"ended with {status}"
            raise BenchmarkFailed(f"{self._process.args!r} {why}: {self._log.read_text(errors='replace')[-2000:]}")

    def wait_for_event(self, name: str, seconds: float = 120.0) -> dict[str, Any]:
        """Return the next event of that name in the log of JSON lines."""
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
    """The daemon on the state in `data_dir`, or without any; it listens at `address`, when that is
    known, by the endpoint `listen`.
    """

    def __init__(
        self, data_dir: Path | None, directory: Path, *options: str, listen: str = f"tcp:0:interface={HOST}"
    ) -> None:
        twistd = [str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile="]
        here = ["--listen", listen, *([] if data_dir is None else ["--data-dir", str(data_dir)])]
        super().__init__([*twistd, "rqdisco", *here, *options], directory)
        self._addresses: list[tuple[str, int]] = []

    def address(self) -> tuple[str, int]:
        """Return host and port, as soon as it listens."""
        return self.addresses()[0]

    def addresses(self) -> list[tuple[str, int]]:
        """Return host and port of each endpoint, as soon as it listens."""
        if not self._addresses:
            pairs = (each.rpartition(":") for each in self.wait_for_event("listening")["endpoints"])
            self._addresses = [(host, int(port)) for host, _, port in pairs]
        return self._addresses

    def dns_port(self) -> int:
        """Return the port for DNS, as soon as it listens; instead of `address`."""
        return int(self.wait_for_event("listening")["dns"][0].rpartition(":")[2])


class Etcd(Process):
    """An etcd with an empty data directory under `directory`; of one member, unless `cluster` names
    all of them. `more` gives additional options.
    """

    def __init__(
        self,
        directory: Path,
        name: str = "default",
        ports: tuple[int, int] | None = None,
        cluster: str = "",
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._port, peer_port = ports or free_ports(2)
        peer = peer_url(peer_port)
        client = f"http://{HOST}:{self._port}"
        options = {
            "name": name,
            "data-dir": str(directory / "data"),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": cluster or f"{name}={peer}",
            "logger": "zap",
            "log-level": "error",
            **more,
        }
        super().__init__(["etcd", *(f"--{name}={value}" for name, value in options.items())], directory)

    def address(self) -> tuple[str, int]:
        """Return host and port, as soon as it is healthy."""
        since = time.monotonic()
        while True:
            client = Client(HOST, self._port)
            try:
                if client.ask("GET", "/health") == {"health": "true"}:
                    return HOST, self._port
            except (OSError, http.client.HTTPException, BenchmarkFailed):
                pass
            finally:
                client.close()
            self.check_running(since, 60.0)
            time.sleep(0.05)

    def is_leader(self) -> bool:
        """Report whether it leads its cluster."""
        client = Client(*self.address())
        try:
            status = client.ask("POST", "/v3/maintenance/status", {})
        finally:
            client.close()
        return bool(status["leader"] == status["header"]["member_id"])


class Floor(Process):
    """The server of floor.py, which gives the bytes `answer` to every request."""

    def __init__(self, directory: Path, answer: bytes) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / "answer"
        file.write_bytes(answer)
        # Without -P, the modules beside the script would hide others of the same name.
        super().__init__([sys.executable, "-P", str(Path(__file__).with_name("floor.py")), str(file)], directory)

    def address(self) -> tuple[str, int]:
        """Return host and port, as soon as it listens."""
        return HOST, int(self.wait_for_event("listening")["port"])


class EtcdSet:
    """An etcd cluster of three members. `more` gives additional options."""

    def __init__(self, directory: Path, more: Mapping[str, str] = MappingProxyType({})) -> None:
        ports = free_ports(6)
        pairs = dict(zip("abc", zip(ports[::2], ports[1::2], strict=True), strict=True))
        cluster = ",".join(f"{name}={peer_url(peer)}" for name, (_, peer) in pairs.items())
        self.members = [Etcd(directory / name, name, pair, cluster, more) for name, pair in pairs.items()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members:
            member.__exit__(kind, error, trace)

    def leader(self) -> Etcd:
        """Return the member that leads."""
        return next(member for member in self.members if member.is_leader())

    def cpu_seconds(self) -> float:
        """Return the CPU time of all members so far."""
        return sum(member.cpu_seconds() for member in self.members)


def peer_url(port: int) -> str:
    """Return the URL at which a member listens for others."""
    return f"http://{HOST}:{port}"


class Dnsmasq(Process):
    """A dnsmasq that answers from the files `config` and `hosts` alone, without any upstream
    server.
    """

    def __init__(self, directory: Path, config: Path, hosts: Path, ttl: int) -> None:
        (self.port,) = free_ports(1)
        files = ["-C", str(config), "--no-resolv", "--no-hosts", f"--addn-hosts={hosts}"]
        where = ["--bind-interfaces", f"--listen-address={HOST}", f"--port={self.port}"]
        command = [program("dnsmasq"), "--no-daemon", *files, *where, f"--local-ttl={ttl}"]
        super().__init__(command, directory)


def program(name: str) -> str:
    """Return the path of the program, its name if it is not found; Debian's users have no /usr/sbin
    in their PATH.
    """
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin") or name


def is_installed(*names: str) -> bool:
    """Report whether all these programs are found."""
    return all(shutil.which(program(name)) for name in names)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind((HOST, 0))
        return [listener.getsockname()[1] for listener in listeners]
