"""The console script `rqdisco`: where its parts are joined; it alone names the reactor, chance and
the terminal.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click

from rqdisco.cli.commands import Invocation, ParsedCommand, parse_arguments
from rqdisco.cli.options import setting
from rqdisco.cli.screen import Screen

if TYPE_CHECKING:
    from rqdisco.cli.app import Command
    from rqdisco.security.certificates import Files

_FAILED, _INTERRUPTED, _PIPE_CLOSED = 1, 130, 141


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and end the process with its status."""
    # Closed by who started us, they are None, which nothing is prepared for.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, until the process ends
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, until the process ends
    try:
        status = execute(sys.argv[1:] if arguments is None else arguments, _react)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        status = _INTERRUPTED
    except BrokenPipeError:
        status = _PIPE_CLOSED
    except OSError as error:
        Screen(sys.stdout, sys.stderr).say(str(error))
        status = _FAILED
    for stream in (sys.stdout, sys.stderr):
        _discard_rest(stream)
    sys.exit(status)


def _discard_rest(stream: TextIO) -> None:
    """What cannot be written by now never can be; Python would try again on its way out, and
    complain.
    """
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def execute(arguments: Sequence[str], react: Callable[[Command, str], int]) -> int:
    """Do what the command line says and return its exit status; `react` runs a command on the
    service at a URL.

    Raises click.Abort, OSError.
    """
    screen = Screen(sys.stdout, sys.stderr)
    try:
        parsed = _parsed(list(arguments), screen)
        if not isinstance(parsed, Invocation):
            return parsed
        if not isinstance(parsed.command, ParsedCommand):
            return 0 if parsed.command is None else react(parsed.command, parsed.url)
        screen.text(parsed.command.text)
        for note in parsed.command.notes:
            screen.say(note)
        return 0
    except click.ClickException as error:
        explained = io.StringIO()
        error.show(explained)
        screen.complain(explained.getvalue().removesuffix("\n"))
        return error.exit_code


def _parsed(arguments: list[str], screen: Screen) -> Invocation | int:
    """What is asked for; what click itself has to say about it, help above all, is on the
    screen.
    """
    # It says some in bytes.
    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    try:
        with redirect_stdout(said):
            return parse_arguments(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        said.seek(0)
        if text := said.read():
            screen.text(text.removesuffix("\n"))


def _react(command: Command, url: str) -> int:
    # Only now: what needs no service, completion above all, answers without loading Twisted.
    from random import random

    from twisted.internet.defer import Deferred
    from twisted.internet.task import react

    from rqdisco.cli.app import App, run_to_its_end
    from rqdisco.client import connect
    from rqdisco.security.certificates import Certificates
    from rqdisco.security.tls import ClientPolicy
    from rqdisco.twisted_compat import use_clock

    name, token, files = _name(url), _token(), _files()
    status = _FAILED

    async def go(reactor: Any) -> None:
        nonlocal status
        # Twisted goes by the wall clock, which steps while machines boot: --wait would end at once,
        # or never.
        use_clock(reactor, time.monotonic)
        policy = ClientPolicy(Certificates(reactor.seconds).for_clients("client", files))
        ask = _confirm if sys.stdin is not None and sys.stdin.isatty() else None
        screen = Screen(sys.stdout, sys.stderr, ask)
        app = App(
            connect(reactor, url, token=token, policy=policy), name, reactor, random, os.urandom, screen, time.time
        )
        running = Deferred.fromCoroutine(run_to_its_end(app, command))
        # Ctrl-C stops the reactor, and then the command, which may have something to tidy up.
        reactor.addSystemEventTrigger("before", "shutdown", running.cancel)
        status = await running

    try:
        react(go)
    except SystemExit:
        return status


def _name(url: str) -> str:
    """The URL as it may be shown. Raises click.UsageError."""
    from rqdisco.client.urls import parse_url

    try:
        return parse_url(url).name
    except ValueError as error:
        raise click.UsageError(f"the URL of the service cannot be used: {error}") from None


def _token() -> str | None:
    """The token in the environment: everybody on the machine sees an option. Raises
    click.UsageError.
    """
    from rqdisco.client.urls import check_token

    given = setting("TOKEN", "a token of the service")
    try:
        return None if given is None else check_token(given)
    except ValueError as error:
        raise click.UsageError(f"RQDISCO_TOKEN cannot be used: {error}") from None


def _files() -> Files:
    """What the environment says of TLS. Raises click.UsageError."""
    from rqdisco.core.errors import TLSUnusable
    from rqdisco.security.certificates import Files, check_files

    named = [setting(name, "the path of a file") for name in ("CA", "CERT", "KEY")]
    authorities, certificate, key = (None if text is None else Path(text) for text in named)
    files = Files(key=key or certificate, certificate=certificate, authorities=authorities)
    try:
        check_files(files)
    except TLSUnusable as error:
        raise click.UsageError(str(error)) from None
    return files


def _confirm(question: str) -> bool:
    from twisted.internet.defer import CancelledError

    try:
        with _interruptible():
            return click.confirm(question, err=True)
    except click.Abort:
        raise CancelledError from None


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lets Ctrl-C end a question, which the reactor would only look at after the answer."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
