"""The console script `rqdisco`: it runs the parsed command and sets the exit status.

The reactor, the clocks, the randomness and the prompts of all commands come from here.
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
from typing import TYPE_CHECKING, NoReturn, TextIO

import click

from rqdisco.cli.commands import Invocation, parse_arguments
from rqdisco.cli.options import environment_setting, service_token
from rqdisco.cli.output import CommandOutput, describe_os_error
from rqdisco.cli.serve_command import ServeArguments
from rqdisco.cli.static_output import StaticOutput

if TYPE_CHECKING:
    from rqdisco.cli.app import Command
    from rqdisco.security.certificates import Files

# As in app.py, which loads Twisted.
_FAILED, _INTERRUPTED, _PIPE_CLOSED = 1, 130, 141
# With no others, nothing needs to be loaded to find unknown ones.
_USUAL_VARIABLES = frozenset({"RQDISCO_URL", "RQDISCO_TOKEN", "RQDISCO_CA"})


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its status."""
    # Python sets streams that were closed by the parent process to None.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, until the process ends
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, until the process ends
    try:
        status = run_command_line(sys.argv[1:] if arguments is None else arguments, _run_in_reactor)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        status = _INTERRUPTED
    except BrokenPipeError:
        status = _PIPE_CLOSED
    except OSError as error:
        CommandOutput(sys.stdout, sys.stderr).message(describe_os_error(error))
        status = _FAILED
    for stream in (sys.stdout, sys.stderr):
        _discard_rest(stream)
    sys.exit(status)


def _discard_rest(stream: TextIO) -> None:
    """Discard unwritten output: Python would try again at exit and print an error."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def run_command_line(arguments: Sequence[str], run_command: Callable[[Command, str], int]) -> int:
    """Run a command line and return its exit status. `run_command` runs a command with the URL of
    the service.

    Raises click.Abort, OSError.
    """
    output = CommandOutput(sys.stdout, sys.stderr)
    try:
        parsed = _parse_command_line(list(arguments), output)
        if not isinstance(parsed, Invocation):
            return parsed
        if isinstance(parsed.command, ServeArguments):
            from rqdisco.cli.daemon import serve

            return serve(parsed.command.arguments)
        _warn_of_unknown_variables(output)
        if not isinstance(parsed.command, StaticOutput):
            return 0 if parsed.command is None else run_command(parsed.command, parsed.url)
        output.text(parsed.command.text)
        for note in parsed.command.notes:
            output.message(note)
        return 0
    except click.ClickException as error:
        text = io.StringIO()
        error.show(text)
        # click indents lists of choices by tabs, which would be escaped.
        output.unprefixed_message(text.getvalue().removesuffix("\n").expandtabs(4))
        return error.exit_code


def _warn_of_unknown_variables(output: CommandOutput) -> None:
    if any(name.startswith("RQDISCO_") and name not in _USUAL_VARIABLES for name in os.environ):
        from rqdisco.service.environment import unknown_variables

        for problem in unknown_variables(os.environ):
            output.message(problem)


def _parse_command_line(arguments: list[str], output: CommandOutput) -> Invocation | int:
    """Parse a command line. What click prints itself, such as help, goes to `output`."""
    # click writes some of it as bytes.
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    try:
        with redirect_stdout(printed):
            return parse_arguments(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        printed.seek(0)
        if text := printed.read():
            output.text(text.removesuffix("\n"))


def _run_in_reactor(command: Command, url: str) -> int:
    # Imported here so that commands without a service, such as completion, do not load Twisted.
    from random import random

    from twisted.internet.defer import Deferred
    from twisted.internet.task import react

    from rqdisco.cli.app import App, run_with_traceback
    from rqdisco.client import DiscoveryClient
    from rqdisco.client.connect import Reactor, connect
    from rqdisco.security.certificates import Certificates
    from rqdisco.security.tls import ClientPolicy
    from rqdisco.twisted_compat import use_clock

    name, token, files = _display_url(url), _token(), _tls_files()
    status = _FAILED

    async def go(reactor: Reactor) -> None:
        nonlocal status
        # Twisted uses the wall clock, which steps while hosts boot: --wait would end too early or
        # too late.
        use_clock(reactor, time.monotonic)
        policy = ClientPolicy(Certificates(reactor.seconds).for_clients("client", files))
        ask = _ask_yes_no if sys.stdin is not None and sys.stdin.isatty() else None
        output = CommandOutput(sys.stdout, sys.stderr, ask)

        def open_client(url: str, token: str | None) -> DiscoveryClient:
            return connect(reactor, url, token=token, policy=policy)

        app = App(open_client(url, token), name, reactor, random, os.urandom, output, time.time, open_client)
        running = Deferred.fromCoroutine(run_with_traceback(app, command))
        # Ctrl-C stops the reactor and cancels the command, which may need to clean up.
        reactor.addSystemEventTrigger("before", "shutdown", running.cancel)
        status = await running

    try:
        react(go)
    except SystemExit:
        return status


def _display_url(url: str) -> str:
    """Return the URL without credentials. Raises click.UsageError."""
    from rqdisco.client.urls import parse_url

    try:
        return parse_url(url).name
    except ValueError as error:
        raise click.UsageError(f"invalid service URL: {error}") from None


def _token() -> str | None:
    return service_token("TOKEN", "the service")


def _tls_files() -> Files:
    """Return the TLS files named in the environment. Raises click.UsageError."""
    from rqdisco.core.errors import TLSUnusable
    from rqdisco.security.certificates import Files, check_files

    paths = [environment_setting(name, "the path of a file") for name in ("CA", "CERT", "KEY")]
    authorities, certificate, key = (None if text is None else Path(text) for text in paths)
    files = Files(key=key or certificate, certificate=certificate, authorities=authorities)
    try:
        check_files(files)
    except TLSUnusable as error:
        raise click.UsageError(f"RQDISCO_CA, RQDISCO_CERT or RQDISCO_KEY: {error}") from None
    return files


def _ask_yes_no(question: str) -> bool:
    from twisted.internet.defer import CancelledError

    try:
        with _interruptible():
            return click.confirm(question, err=True)
    except click.Abort:
        raise CancelledError from None


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C interrupt a prompt; the reactor would handle it only after the answer."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
