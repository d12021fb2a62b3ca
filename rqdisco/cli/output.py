"""The only way for commands to write: results on stdout, one per line or as JSON; messages on
stderr; tables, colors and progress bars only on terminals.

Every text passes through `_Stream.escape`, so that it cannot move the cursor, start a line or add a
cell, and fits the encoding of the stream.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, TextIO

import msgspec

from rqdisco.core.escaping import ascii_json, escape_untrusted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

PROGRAM = "rqdisco"
# The colors of states, by their first word.
_GOOD, _NEW, _DOUBTFUL, _BAD = "green", "cyan", "yellow", "bold red"
_STYLES = {
    **dict.fromkeys(("up", "ready", "healthy"), _GOOD),
    "forming": _NEW,
    **dict.fromkeys(("degraded", "unresolved", "starting", "leaving"), _DOUBTFUL),
    **dict.fromkeys(("down", "unreachable", "fenced", "no", "two", "ownerless", "waiting"), _BAD),
}
# Wider than any table, in cells.
_WIDEST = 1 << 20
_STATE_COLUMNS = ("STATE", "HEALTH")


def describe_os_error(error: OSError) -> str:
    """Describe an error of the system in words. Without a file it is that of the output."""
    where = "cannot write the output" if error.filename is None else str(error.filename)
    return f"{where}: {error.strerror or error}"


class CommandOutput:
    """Standard output and standard error. `ask` asks the user a yes-or-no question; None without a
    terminal.
    """

    def __init__(self, out: TextIO, err: TextIO, ask: Callable[[str], bool] | None = None) -> None:
        self._out = _Stream(out)
        self._err = _Stream(err)
        self._has_warned_about_escapes = False
        self.ask = None if ask is None else lambda question: ask(self._err.escape(question))

    @property
    def is_terminal(self) -> bool:
        """Report whether results go to a terminal."""
        return self._out.stream.isatty()

    @contextmanager
    def binary(self) -> Iterator[BinaryIO]:
        """Yield stdout for a document whose bytes must stay as they are. It is no terminal."""
        yield self._out.stream.buffer
        self._out.stream.flush()

    def line(self, text: str) -> None:
        """Print a result. Raises BrokenPipeError if the reader is gone."""
        self.lines([text])

    def state_line(self, lead: str, state: str, rest: str = "") -> None:
        """Print a result, on a terminal with the color of a state. Raises BrokenPipeError if the
        reader is gone.
        """
        style = _style(state)
        if not style or not self.is_terminal:
            self.line(f"{lead}{state}{rest}")
            return
        # Slow to load, and rarely needed.
        from rich.console import Console
        from rich.text import Text

        parts = (self._out.escape(lead), (self._out.escape(state), style), self._out.escape(rest))
        Console(file=self._out.stream, highlight=False).print(Text.assemble(*parts), soft_wrap=True)
        self._warn_about_escapes()

    def lines(self, texts: Iterable[str]) -> None:
        """Print several results."""
        self._rows([text] for text in texts)

    def text(self, text: str) -> None:
        """Print a trusted text of lines and tab-separated cells."""
        self._rows(line.split("\t") for line in text.split("\n"))

    def document(self, content: object) -> None:
        """Print a result as one line of JSON, in ASCII."""
        self.json(msgspec.json.encode(content) + b"\n")
        self._out.stream.flush()

    @contextmanager
    def array(self) -> Iterator[Callable[[object], None]]:
        """Print a JSON array of any length, one item a line. Yield a function that prints an item;
        an error leaves the array without its end.
        """
        separator = b"[\n"

        def add(item: object) -> None:
            nonlocal separator
            self.json(separator + msgspec.json.encode(item))
            separator = b",\n"

        yield add
        self.json(b"\n]\n" if separator == b",\n" else b"[]\n")
        self._out.stream.flush()

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
        """Print a table on a terminal, else one line per row with tabs between cells. A terminal
        that is too narrow gets one line per cell, for addresses are never split.
        """
        if not self.is_terminal:
            self._rows(rows)
            return
        # Slow to load, and rarely needed.
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:
            table.add_column(column, no_wrap=True)
        cells = [
            [
                Text(self._out.escape(cell), style=_style(cell) if column in _STATE_COLUMNS else "")
                for column, cell in zip(columns, row, strict=True)
            ]
            for row in rows
        ]
        for row_cells in cells:
            table.add_row(*row_cells)
        console = Console(file=self._out.stream, highlight=False)
        if title:
            console.print(Text(self._out.escape(title)), soft_wrap=True)
        whole = console.options.update(max_width=_WIDEST)
        if console.measure(table, options=whole).maximum <= console.width:
            console.print(table)
        else:
            _print_blocks(console, columns, cells)
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


def _style(state: str) -> str:
    return _STYLES.get(state.partition(" ")[0].rstrip(","), "")


def _print_blocks(console: Console, columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    """Print one line per cell, and an empty line between rows."""
    from rich.text import Text

    width = max(map(len, columns)) + 2
    for number, row in enumerate(rows):
        if number:
            console.print()
        for column, cell in zip(columns, row, strict=True):
            console.print(Text.assemble((column.ljust(width), "bold"), cell), soft_wrap=True)


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
