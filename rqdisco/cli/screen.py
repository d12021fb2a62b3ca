"""What a command says: results on stdout, one a line; messages on stderr; tables and progress on terminals only."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rqdisco.visible import visible


class Screen:
    """Standard output and standard error. `ask` puts a yes-or-no question to who sits at the terminal, if anybody."""

    def __init__(self, out: TextIO, err: TextIO, ask: Callable[[str], bool] | None = None) -> None:
        self.out = out
        self.ask = ask
        self._err = err

    def line(self, text: str) -> None:
        """A result. Raises BrokenPipeError where nobody reads them any more."""
        self.lines([text])

    def lines(self, texts: Sequence[str]) -> None:
        """Several results. What came from elsewhere cannot move the cursor of a terminal."""
        is_seen = self.out.isatty()
        for text in texts:
            self.out.write(f"{_seen(text) if is_seen else text}\n")
        self.out.flush()

    def check_reader(self) -> None:
        """Raise BrokenPipeError if nobody reads results any more, without writing one."""
        try:
            descriptor = self.out.fileno()
        except OSError:
            return
        poll = select.poll()
        poll.register(descriptor, 0)
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            raise BrokenPipeError

    def say(self, text: str) -> None:
        """A message; what came from elsewhere cannot move the cursor in it."""
        self._err.write("rqdisco: " + "".join(c if c.isprintable() else "?" for c in text) + "\n")
        self._err.flush()

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows of cells: a table on a terminal, else a row a line with tabs between cells."""
        if not self.out.isatty():
            self.lines(["\t".join(row) for row in rows])
            return
        # Slow to load, and most calls never need it.
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(visible(cell)) for cell in row))
        console = Console(file=self.out, highlight=False)
        console.print(Text(title), soft_wrap=True)
        console.print(table)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar on a terminal while the context lasts; yields what is called with the number of further things done."""
        if not self._err.isatty():
            yield lambda _: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(file=self._err), transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda steps: bar.advance(task, steps)


def _seen(text: str) -> str:
    return "\n".join("\t".join(map(visible, line.split("\t"))) for line in text.split("\n"))
