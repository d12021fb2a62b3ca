"""Real etcd members on loopback addresses, and what happens to them."""

from __future__ import annotations

import json
import re
import shutil
import signal
import ssl
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.certificates import Authority
from tests.support.process import PATIENCE, Reply
from tests.support.trio import own_address

ETCD = shutil.which("etcd")
# A run of `.ci/run`, which installs etcd, fails if a test is skipped.
needs_etcd = pytest.mark.skipif(ETCD is None, reason="etcd is not installed")
_READY = "ready to serve client requests"
_TAKEN = re.compile("address already in use")

Run = Callable[..., list[str]]


class CannotListen(Exception):
    """Another process has taken the address of a member."""


class Certificates:
    """Files of an authority for members, and for clients if `for_clients` requires theirs."""

    def __init__(self, directory: Path, authority: Authority, for_clients: bool = False) -> None:
        self.authority_file = directory / "authority.crt"
        self.authority_file.write_bytes(authority.pem)
        self.client_pair = authority.write(directory, "client") if for_clients else None
        self.context = ssl.create_default_context(cafile=str(self.authority_file))
        if self.client_pair is not None:
            self.context.load_cert_chain(self.client_pair[1], self.client_pair[0])
        self._directory = directory
        self._authority = authority

    def options(self, name: str, host: str) -> list[str]:
        """Return the options of a member."""
        key, certificate = self._authority.write(self._directory, name, [host])
        options = [f"--key-file={key}", f"--cert-file={certificate}"]
        if self.client_pair is not None:
            options += ["--client-cert-auth", f"--trusted-ca-file={self.authority_file}"]
        return options


class RealMember:
    """A member; its log is read all the time, and written to a file. `run` returns what runs its
    command.
    """

    def __init__(
        self, name: str, directory: Path, certificates: Certificates | None = None, run: Run | None = None
    ) -> None:
        self._run = run or (lambda *command: list(command))
        self.name = name
        self.data = directory / name
        self.log = directory / f"{name}.log"
        self.address = own_address()
        self.peer_address = own_address()
        self.process: subprocess.Popen[bytes] | None = None
        self._certificates = certificates
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._reader: threading.Thread | None = None
        self._ended = True

    @property
    def endpoint(self) -> str:
        return f"http://{self.address}" if self._certificates is None else f"https://{self.address}"

    def start(self, cluster: str, options: Sequence[str]) -> None:
        """Start it; `wait_until_ready` waits."""
        assert ETCD is not None, "etcd is not installed"
        host = self.address.partition(":")[0]
        self.process = subprocess.Popen(
            self._run(
                ETCD,
                f"--name={self.name}",
                f"--data-dir={self.data}",
                f"--listen-client-urls={self.endpoint}",
                f"--advertise-client-urls={self.endpoint}",
                f"--listen-peer-urls=http://{self.peer_address}",
                f"--initial-advertise-peer-urls=http://{self.peer_address}",
                f"--initial-cluster={cluster}",
                *([] if self._certificates is None else self._certificates.options(self.name, host)),
                *options,
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._lines, self._ended = [], False
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()

    def wait_until_ready(self) -> None:
        """Wait until it serves clients, which it does once there is a leader."""
        with self._news:
            self._news.wait_for(lambda: self._ended or self._logged(_READY), PATIENCE)
            if not self._logged(_READY):
                if any(map(_TAKEN.search, self._lines)):
                    raise CannotListen(self.name)
                raise AssertionError(f"{self.name} is not ready: {self._lines[-20:]}")

    def kill(self) -> None:
        """Send SIGKILL, and wait for its end."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait(PATIENCE)
            assert self._reader is not None
            self._reader.join(PATIENCE)
            self.process = None

    def hang(self) -> None:
        """Send SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        self._signal(signal.SIGCONT)

    def connect(self, seconds: float = PATIENCE) -> HTTPConnection:
        """Return a connection, to be kept alive."""
        url = urlsplit(self.endpoint)
        assert url.hostname is not None
        if self._certificates is not None:
            return HTTPSConnection(url.hostname, url.port, timeout=seconds, context=self._certificates.context)
        return HTTPConnection(url.hostname, url.port, timeout=seconds)

    def post(self, path: str, document: object, token: str | None = None, seconds: float = PATIENCE) -> Reply:
        """Send one request over a connection of its own."""
        connection = self.connect(seconds)
        try:
            connection.request("POST", path, json.dumps(document), {"Authorization": token} if token else {})
            response = connection.getresponse()
            return Reply(response.status, response.reason, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def answers(self, seconds: float = 1.0) -> bool:
        """Report whether it answers at all."""
        try:
            return self.post("/v3/maintenance/status", {}, seconds=seconds).status == 200
        except OSError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def _logged(self, text: str) -> bool:
        return any(text in line for line in self._lines)

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as lines, self.log.open("ab", buffering=0) as log:
            for line in lines:
                log.write(line)
                with self._news:
                    self._lines.append(line.decode(errors="replace"))
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


class RealEtcd:
    """A cluster of one or three members, whose data and logs are in `directory`.

    It does not sync its files unless `durable` is set: kill -9 loses nothing without that either.
    `run` returns what runs the command of a member.
    """

    def __init__(
        self,
        directory: Path,
        count: int = 1,
        options: Sequence[str] = (),
        durable: bool = False,
        certificates: Certificates | None = None,
        run: Run | None = None,
    ) -> None:
        self._options = [*options, *([] if durable else ["--unsafe-no-fsync"])]
        for attempt in range(5):
            self._members = [RealMember(f"e{number + 1}", directory, certificates, run) for number in range(count)]
            try:
                self._start_all()
            except CannotListen:
                # Its address was taken between the choice and the start.
                self.close()
                for member in self._members:
                    shutil.rmtree(member.data, ignore_errors=True)
                if attempt == 4:
                    raise
            except BaseException:
                self.close()
                raise
            else:
                break

    @property
    def members(self) -> Mapping[str, RealMember]:
        """The members, by name."""
        return {member.name: member for member in self._members}

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(member.endpoint for member in self._members)

    def start(self, name: str, wait: bool = True) -> None:
        """Start a member that was killed. Without a majority it is never ready: then do not wait."""
        member = self.members[name]
        member.start(self._cluster(), self._options)
        if wait:
            member.wait_until_ready()

    def close(self) -> None:
        """Kill all members."""
        for member in self._members:
            member.kill()

    def leader(self) -> str | None:
        """Return the name of the leader, by the first member that answers within a second and knows
        one.
        """
        for member in self._members:
            with suppress(OSError):
                status: dict[str, Any] = member.post("/v3/maintenance/status", {}, seconds=1.0).document
                listed = member.post("/v3/cluster/member/list", {}, seconds=1.0).document["members"]
                names = {each["ID"]: str(each["name"]) for each in listed}
                if "leader" in status:
                    return names[status["leader"]]
        return None

    def post(self, path: str, document: object, token: str | None = None) -> Reply:
        """Send a request to the first member."""
        return self._members[0].post(path, document, token)

    def save(self, to: Path) -> None:
        """Copy all data to a new directory; the members are killed and started again."""
        self.close()
        for member in self._members:
            shutil.copytree(member.data, to / member.name)
        self._start_all()

    def restore(self, saved: Path) -> None:
        """Put copied data back."""
        self.close()
        for member in self._members:
            shutil.rmtree(member.data)
            shutil.copytree(saved / member.name, member.data)
        self._start_all()

    def _start_all(self) -> None:
        for member in self._members:
            member.start(self._cluster(), self._options)
        for member in self._members:
            member.wait_until_ready()

    def _cluster(self) -> str:
        return ",".join(f"{member.name}=http://{member.peer_address}" for member in self._members)
