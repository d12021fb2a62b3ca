"""haproxy with deploy/haproxy/haproxy.cfg, except for the addresses of its listener and its
daemons.
"""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

from tests.support.process import PATIENCE, PROJECT, Reply, ask

CONFIG = PROJECT / "deploy" / "haproxy" / "haproxy.cfg"
_NAMES = "abc"


def config(listener: int, ports: Sequence[int]) -> str:
    """Return the file of deploy/, for an inherited socket with the number `listener` and daemons at
    `ports`.
    """
    text = CONFIG.read_text()
    for pattern, by, count in (
        # These need root, and a path that all tests would share.
        (r"^    (user|group|stats socket) .*\n", "", 3),
        (r"^    bind :8500\n", "", 1),
        (r"^    bind :4000$", f"    bind fd@{listener}", 1),
        *(
            (rf"^    server {name} \S+$", f"    server {name} 127.0.0.1:{port}", 1)
            for name, port in zip(_NAMES, ports, strict=True)
        ),
    ):
        text, done = re.subn(pattern, by, text, flags=re.MULTILINE)
        assert done == count, f"{pattern} is {done} times in {CONFIG}"
    return text


class HAProxy:
    """A running haproxy, with the file of deploy/ or another `text`. Its log is read all the time."""

    def __init__(
        self, directory: Path, ports: Sequence[int], text: Callable[[int, Sequence[int]], str] = config
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
            file = directory / "haproxy.cfg"
            file.write_text(text(listener.fileno(), ports))
            self.process = subprocess.Popen(
                ["haproxy", "-db", "-f", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                pass_fds=[listener.fileno()],
            )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, pattern: str, since: int = 0) -> str:
        """Return the first line with `pattern` except for the first `since` lines; it may be logged
        already.
        """

        def found() -> list[str]:
            return [line for line in self.lines[since:] if re.search(pattern, line)]

        with self._news:
            self._news.wait_for(lambda: found() or self._ended, PATIENCE)
            assert found(), f"no {pattern}, but {self.lines[since:]}"
            return found()[0]

    def connect(self, source: str = "127.0.0.1") -> HTTPConnection:
        """Return a separate connection, from one of the addresses of this host."""
        return HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE, source_address=(source, 0))

    def request(self, method: str, path: str, document: object = None, source: str = "127.0.0.1") -> Reply:
        """Send one request over a separate connection."""
        connection = self.connect(source)
        try:
            return ask(connection, method, path, document)
        finally:
            connection.close()

    def stop(self) -> None:
        """Stop haproxy at once."""
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with self._news:
                    self.lines.append(line)
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()
