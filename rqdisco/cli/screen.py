"""What a command says: results on stdout, one a line; messages on stderr; tables and progress on
terminals only.

Nothing else writes to either stream. Every text goes through `_Stream.seen`, whoever it comes from:
it moves no cursor, begins no line, adds no cell, and can be written in the encoding of the stream.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TextIO

from rqdisco.core.escaping import ascii_json, escape_untrusted

NAME = "rqdisco"


def ids_in_words(count: int) -> str:
    """So many discovery IDs."""
    return "1 ID" if count == 1 else f"{count} IDs"


class Screen:
    """Standard output and standard error. `ask` puts a yes-or-no question to who sits at the
    terminal, if anybody.
    """

    def __init__(self, out: TextIO, err: TextIO, ask: Callable[[str], bool] | None = None) -> None:
        self._out = _Stream(out)
        self._err = _Stream(err)
        self._has_warned_about_escapes = False
        self.ask = None if ask is None else lambda question: ask(self._err.seen(question))

    def line(self, text: str) -> None:
        """A result. Raises BrokenPipeError where nobody reads them any more."""
        self.lines([text])

    def lines(self, texts: Iterable[str]) -> None:
        """Several results."""
        self._rows([text] for text in texts)

    def text(self, text: str) -> None:
        """A text of our own, of lines and cells."""
        self._rows(line.split("\t") for line in text.split("\n"))

    def json(self, lines: bytes) -> None:
        """Lines of JSON, with their ends. They are not flushed. Raises ValueError for what is no
        JSON.
        """
        self._out.write(ascii_json(lines).decode())

    def check_reader(self) -> None:
        """Raise BrokenPipeError if nobody reads results any more, without writing one."""
        descriptor = self._out.descriptor()
        if descriptor is None:
            return
        poll = select.poll()
        poll.register(descriptor, 0)
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            raise BrokenPipeError

    def say(self, text: str) -> None:
        """A message."""
        self.complain(f"{NAME}: {self._err.seen(text)}")

    def complain(self, text: str) -> None:
        """A message of several lines. One that cannot be written is lost, and what it was about
        goes on.
        """
        with suppress(OSError):
            for line in text.split("\n"):
                self._err.write(f"{self._err.seen(line)}\n")
            self._err.flush()

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows of cells: a table on a terminal, else a row a line with tabs between cells."""
        if not self._out.is_terminal():
            self._rows(rows)
            return
        # Slow to load, and most calls never need it.
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(self._out.seen(cell)) for cell in row))
        console = Console(file=self._out.stream, highlight=False)
        console.print(Text(self._out.seen(title)), soft_wrap=True)
        console.print(table)
        self._warn_about_escapes()

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar on a terminal while the context lasts; yields what is called with the number of
        further things done.
        """
        if not self._err.is_terminal():
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
            self._out.write("\t".join(map(self._out.seen, row)) + "\n")
        self._out.flush()
        self._warn_about_escapes()

    def _warn_about_escapes(self) -> None:
        """A list that is read by a program is not the list any more, so that has to be known. Once
        will do.
        """
        if self._out.lacks and not self._has_warned_about_escapes:
            self._has_warned_about_escapes = True
            self.say(f"{self._out.lacks} cannot be written to stdout in {self._out.encoding}, so it is an escape there")


class _Stream:
    """An output. `lacks` is the first character that it could not be given as it is, because of its
    encoding.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.encoding = stream.encoding or "utf-8"
        self.lacks = ""

    def seen(self, text: str) -> str:
        """A text as it may be written: the one way to either stream."""
        shown = escape_untrusted(text)
        try:
            shown.encode(self.encoding)
        except UnicodeEncodeError as error:
            self.lacks = self.lacks or f"U+{ord(shown[error.start]):04X}"
            return shown.encode(self.encoding, "backslashreplace").decode(self.encoding)
        return shown

    def write(self, text: str) -> None:
        self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()

    def is_terminal(self) -> bool:
        return self.stream.isatty()

    def descriptor(self) -> int | None:
        """Its file descriptor, if it has one."""
        try:
            return self.stream.fileno()
        except OSError:
            return None
