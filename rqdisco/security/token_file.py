"""The file of token digests: read, and edited atomically."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rqdisco.core.errors import TokensUnusable
from rqdisco.security.atomic_file import replacing
from rqdisco.security.file_stamp import check_regular
from rqdisco.security.tokens import BadTokens, TokenRing, parse_tokens


def read_tokens(path: Path, *, again: bool = False) -> TokenRing:
    """Return the tokens in a file; only of a regular one if it is read `again`. Raises
    TokensUnusable.
    """
    try:
        if again:
            check_regular(path)
        return parse_tokens(path.read_bytes())
    except OSError as error:
        raise TokensUnusable(f"{path}: {error.strerror}; create one with `rqdisco token new`") from None
    except BadTokens as error:
        raise TokensUnusable(f"{path}: {error}") from None


def edit_tokens(path: Path, edit: Callable[[bytes], bytes]) -> None:
    """Replace the content of a file by the result of `edit`, durably and atomically. Concurrent
    edits wait for each other.

    Only the owner can read a new file; an existing one keeps its owner and mode, so that the daemon
    can still read it. Raises OSError, and what `edit` raises.
    """
    path = path.resolve()
    with _locked(path.parent):
        before = path.stat() if path.exists() else None
        after = edit(path.read_bytes() if before is not None else b"")
        parse_tokens(after)
        with replacing(path) as file:
            if before is not None:
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
                os.fchmod(file.fileno(), before.st_mode & 0o7777)
            file.write(after)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Lock the directory, since a file that is replaced cannot be locked itself; sync it at the
    end.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
