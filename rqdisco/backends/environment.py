"""The clocks and randomness that a directory decides with."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from rqdisco.core.ids import RandomBytes
from rqdisco.core.records import Moment


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """`now` returns monotonic moments. `wall_us` is the wall clock in microseconds since 1970, which
    only names and orders things. `random` returns random bytes.
    """

    now: Callable[[], Moment]
    wall_us: Callable[[], int]
    random: RandomBytes
