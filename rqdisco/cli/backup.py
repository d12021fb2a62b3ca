"""The commands `rqdisco backup` and `rqdisco restore`."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

from rqdisco.cli.app import DONE, App, CommandFailed, UsageError, operator_failure
from rqdisco.cli.transfer import open_output
from rqdisco.client import DamagedExport, Refused
from rqdisco.client.exports import BACKUP_FORMAT, BACKUP_VERSION, ExportReader
from rqdisco.core.codec import Malformed, is_metadata, split_record
from rqdisco.core.errors import CannotStart
from rqdisco.core.plurals import counted
from rqdisco.storage.files import Disk
from rqdisco.storage.restore import BackupContents, check_backup, check_original_is_gone, check_target, restore_backup

_INCARNATION_BYTES = 8


async def back_up(app: App, path: Path | None) -> int:
    """Write a backup to a file that only its owner can read, or to stdout for None. The file appears
    only if the backup is complete.
    """
    if path is None and app.output.is_terminal:
        raise UsageError("a backup is not for terminals: name a FILE, or redirect stdout")
    reader = ExportReader(BACKUP_FORMAT, BACKUP_VERSION)
    ids = 0
    try:
        with app.output.binary() if path is None else open_output(path) as file:
            async with aclosing(app.client.backup_lines()) as lines:
                async for line in lines:
                    record = reader.feed(line)
                    ids += record is not None and not is_metadata(split_record(record)[0])
                    file.write(line)
            reader.finish()
    except (DamagedExport, Malformed) as error:
        raise CommandFailed(
            f"nothing backed up: the answer is incomplete: {error}; the daemon's log says why"
        ) from None
    except Refused as error:
        raise operator_failure(error) from None
    app.output.message(f"backed up {counted(ids, 'ID')} to {path or 'stdout'}")
    return DONE


async def restore(app: App, path: Path, directory: Path, *, original_is_gone: bool) -> int:
    """Make a state directory from a backup, and say what follows."""
    fs = Disk()
    if path.exists() and not path.is_file():
        raise CommandFailed(f"nothing restored: {path}: not a regular file, which is read twice")
    try:
        # Before the question: an operator should not have to answer it in vain.
        check_target(fs, directory)
        contents = check_backup(fs, path)
        if not original_is_gone and app.output.ask is not None:
            original_is_gone = _ask(app, contents)
        if original_is_gone:
            check_original_is_gone(fs, contents.header)
        incarnation = contents.header.incarnation if original_is_gone else app.secret(_INCARNATION_BYTES).hex()
        restore_backup(fs, path, directory, incarnation)
    except CannotStart as error:
        raise CommandFailed(f"nothing restored: {error}") from None
    app.output.message(f"restored {counted(contents.ids, 'ID')} as of {contents.header.made_at} UTC into {directory}")
    for consequence in _consequences(contents, original_is_gone=original_is_gone):
        app.output.message(consequence)
    return DONE


def _ask(app: App, contents: BackupContents) -> bool:
    header = contents.header
    app.output.message(f"{counted(contents.ids, 'ID')} as of {header.made_at} UTC, from {header.incarnation}")
    app.output.message("two daemons that continue from one state can each tell a node to bootstrap")
    assert app.output.ask is not None
    return app.output.ask("Is the daemon that this backup is from gone, and will it never run again?")


def _consequences(contents: BackupContents, *, original_is_gone: bool) -> list[str]:
    header = contents.header
    if not original_is_gone:
        return [
            "this is a new daemon, and these IDs are ownerless: nodes are listed and join, none is told to bootstrap",
            "create new IDs for new clusters; with --original-is-gone the right to bootstrap is restored, too",
        ]
    return [
        f"this daemon continues as {header.incarnation}: nodes are told to bootstrap under these IDs",
        "never start the original again: each of the two could tell a node to bootstrap",
        f"what was registered after {header.made_at} UTC is known only to peers, which are asked before any decision;"
        " without peers, register the nodes of clusters that are younger before other nodes ask",
    ]
