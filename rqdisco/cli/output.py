"""The only way for commands to write: results on stdout, one per line; messages on stderr; tables
and progress bars only on terminals.

Every text passes through `_Stream.escape`, so that it cannot move the cursor, start a line or add a
cell, and fits the encoding of the stream.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TextIO

from rqdisco.core.escaping import ascii_json, escape_untrusted

PROGRAM = "rqdisco"


def format_ids(count: int) -> str:
    """Format a number of discovery IDs."""
    return "1 ID" if count == 1 else f"{count} IDs"


class CommandOutput:
    """Standard output and standard error. `ask` asks the user a yes-or-no question; None without a
    terminal.
    """

    def __init__(self, out: TextIO, err: TextIO, ask: Callable[[str], bool] | None = None) -> None:
        self._out = _Stream(out)
        self._err = _Stream(err)
        self._has_warned_about_escapes = False
        self.ask = None if ask is None else lambda question: ask(self._err.escape(question))

    def line(self, text: str) -> None:
        """Print a result. Raises BrokenPipeError if the reader is gone."""
        self.lines([text])

    def styled_line(self, lead: str, word: str, rest: str, style: str) -> None:
        """Print a result, with a style for `word` on a terminal. Raises BrokenPipeError if the reader
        is gone.
        """
        if not style or not self._out.stream.isatty():
            self.line(f"{lead}{word}{rest}")
            return
        # Slow to load, and rarely needed.
        from rich.console import Console
        from rich.text import Text

        parts = (self._out.escape(lead), (self._out.escape(word), style), self._out.escape(rest))
        Console(file=self._out.stream, highlight=False).print(Text.assemble(*parts), soft_wrap=True)
        self._warn_about_escapes()

    def lines(self, texts: Iterable[str]) -> None:
        """Print several results."""
        self._rows([text] for text in texts)

    def text(self, text: str) -> None:
        """Print a trusted text of lines and tab-separated cells."""
        self._rows(line.split("\t") for line in text.split("\n"))

    def json(self, lines: bytes) -> None:
        """Write lines of JSON, including their ends, without flushing. Raises ValueError if `lines`
        is not JSON.
        """
        self._out.stream.write(ascii_json(lines).decode())

    def check_reader(self) -> None:
        """Raise BrokenPipeError if the reader of stdout is gone, without writing anything."""
        poll = select.poll()
        try:
            poll.register(self._out.stream.fileno(), 0)
        except OSError:
            # A stream without a file descriptor.
            return
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            raise BrokenPipeError

    def message(self, text: str) -> None:
        """Print a message to stderr."""
        self.unprefixed_message(f"{PROGRAM}: {self._err.escape(text)}")

    def unprefixed_message(self, text: str) -> None:
        """Print lines to stderr without the program's name. If they cannot be written they are
        dropped, and the command continues.
        """
        with suppress(OSError):
            for line in text.split("\n"):
                self._err.stream.write(f"{self._err.escape(line)}\n")
            self._err.stream.flush()

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table on a terminal, else one line per row with tabs between cells."""
        if not self._out.stream.isatty():
            self._rows(rows)
            return
        # Slow to load, and rarely needed.
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(self._out.escape(cell)) for cell in row))
        console = Console(file=self._out.stream, highlight=False)
        console.print(Text(self._out.escape(title)), soft_wrap=True)
        console.print(table)
        self._warn_about_escapes()

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a progress bar on a terminal. Yield a function that advances it by a number of
        steps.
        """
        if not self._err.stream.isatty():
            yield lambda _: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(file=self._err.stream), transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda steps: bar.advance(task, steps)

    def _rows(self, rows: Iterable[Sequence[str]]) -> None:
        for row in rows:
            self._out.stream.write("\t".join(map(self._out.escape, row)) + "\n")
        self._out.stream.flush()
        self._warn_about_escapes()

    def _warn_about_escapes(self) -> None:
        """Warn once that stdout contains escapes: a program that reads it gets other values."""
        if self._out.unencodable and not self._has_warned_about_escapes:
            self._has_warned_about_escapes = True
            self.message(
                f"stdout cannot encode {self._out.unencodable} in {self._out.encoding} and shows an escape instead"
            )


class _Stream:
    """An output stream. `unencodable` names the first character that its encoding lacked."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.encoding = stream.encoding or "utf-8"
        self.unencodable = ""

    def escape(self, text: str) -> str:
        """Return the text in a form that is safe to write."""
        shown = escape_untrusted(text)
        try:
            shown.encode(self.encoding)
        except UnicodeEncodeError as error:
            self.unencodable = self.unencodable or f"U+{ord(shown[error.start]):04X}"
            return shown.encode(self.encoding, "backslashreplace").decode(self.encoding)
        return shown
