"""Read a long range in parts.

etcd 3.4 lists all keys of a range before it applies the limit, so a page of a range that ends far
away costs as much as all of it. A part ends where about as many keys are expected as are wanted.
"""

from __future__ import annotations

from rqdisco.backends.etcd.messages import Range, RangeResponse, prefix_end

# So many bytes behind the prefix are taken for a number, between whose values keys are spread.
_BYTES = 16
_WHOLE = 1 << 8 * _BYTES
_GROWTH, _GROWTH_IF_EMPTY = 2, 4


class RangeCursor:
    """Goes through all keys that start with `prefix`, in order; a part has at most `most` of them.
    With `after` it begins behind that key, which is given without the prefix.

    The width of the next part is estimated from the number of keys in the last one. Its limit is
    halved by `shrink`, and doubled after each answer.
    """

    def __init__(self, prefix: bytes, most: int, after: bytes = b"") -> None:
        self._prefix = prefix
        self._most = self._limit = most
        self._start = self._stop = prefix + after + b"\0" if after else prefix
        self._end = prefix_end(prefix)
        self._width = _WHOLE

    @property
    def is_at_end(self) -> bool:
        """Report whether there are no more parts."""
        return self._start >= self._end

    def part(self) -> Range:
        """Return what to read next; `advance` takes the answer."""
        key = self._start[len(self._prefix) :][:_BYTES]
        stop = int.from_bytes(key.ljust(_BYTES, b"\0")) + self._width
        self._stop = self._end if stop >= _WHOLE else self._prefix + stop.to_bytes(_BYTES)
        return Range(key=self._start, range_end=self._stop, limit=self._limit)

    def shrink(self) -> bool:
        """Have `part` return a smaller one; report whether there is one."""
        is_smaller, self._limit = self._limit > 1, max(1, self._limit // 2)
        return is_smaller

    def advance(self, found: RangeResponse) -> None:
        """Go on behind what was found."""
        self._start = found.kvs[-1].key + b"\0" if found.more else self._stop
        self._limit = min(self._most, 2 * self._limit)
        if found.count > self._most:
            self._width = max(1, self._width * self._most // found.count)
        elif found.count < self._most // 2:
            self._width = min(_WHOLE, self._width * (_GROWTH if found.count else _GROWTH_IF_EMPTY))
