"""The functions of the package that an action enters."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import rqdisco

_ROOT = f"{Path(rqdisco.__file__).parent}/"


def entered(action: Callable[[], object]) -> list[str]:
    """Functions of the package that `action` enters, in order; comprehensions are not counted, and
    a coroutine that is resumed is not counted again.
    """
    frames: set[FrameType] = set()
    names: list[str] = []

    def profile(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or frame in frames or not code.co_filename.startswith(_ROOT):
            return
        if code.co_name == "<lambda>" or not code.co_name.startswith("<"):
            frames.add(frame)
            names.append(f"{code.co_filename.removeprefix(_ROOT)} {code.co_qualname}")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(before)
    return names
