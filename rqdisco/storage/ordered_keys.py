"""Go through the IDs of a store in their order, without an index of all of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from rqdisco.storage.memory import Store

# IDs compared in one step, fewer with their lines, and IDs known in order after all steps.
_STEP, _TEXT_STEP = 2048, 512
_MOST = 2048
# A page: so few that decoding it takes about a millisecond.
_PAGE, _PAGE_BYTES = 100, 1 << 15
# Printable ASCII that JSON leaves as it is.
_UNESCAPED = re.compile(rb"[!#-\[\]-~]+")


def ordered_keys(store: Store, after: str, text: str = "", extra: Collection[bytes] = ()) -> Iterator[list[bytes]]:
    """Yield the IDs on the disk that follow `after`, in the order of their bytes, in small pages.

    IDs whose lines cannot contain `text` in any case are left out, unless they are among `extra`.
    Empty pages are steps of the search: each page takes about a millisecond, so callers let other
    work run after each.
    """
    first, needle = after.encode(), _searchable(text)
    step = _TEXT_STEP if needle else _STEP
    while True:
        last: bytes | None = None
        found: list[bytes] = []
        scan = store.scan()
        while keys := scan.next_keys(step):
            later = [key for key in keys if first < key and (last is None or key < last)]
            if needle:
                later = [key for key in later if key in extra or _contains(store, key, needle)]
            if later:
                found = sorted(found + later)[:_MOST]
            if len(found) == _MOST:
                last = found[-1]
            yield []
        yield from _pages(store, found)
        if last is None:
            return
        first = last


def _searchable(text: str) -> bytes:
    """Return a part of the text that every line with the text contains, in lower case."""
    return max(_UNESCAPED.findall(text.encode().lower()), key=len, default=b"")


def _contains(store: Store, key: bytes, needle: bytes) -> bool:
    rest = store.rest(key)
    return needle in key.lower() or (rest is not None and needle in rest.lower())


def _pages(store: Store, keys: list[bytes]) -> Iterator[list[bytes]]:
    page: list[bytes] = []
    size = 0
    for key in keys:
        page.append(key)
        size += len(store.rest(key) or b"")
        if len(page) == _PAGE or size >= _PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page
