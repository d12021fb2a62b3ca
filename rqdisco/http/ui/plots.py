"""Plots of the last hour, drawn on the server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from twisted.web.template import Tag, tags

from rqdisco.core.plurals import counted

_WIDTH, _HEIGHT = 300, 124
# The area of the bars.
_LEFT, _TOP, _RIGHT, _BOTTOM = 36, 24, 296, 102
_STEPS = (1, 2, 5)
_MINUTES_APART = 30


def plot(title: str, counts: Sequence[int]) -> Tag:
    """Return a plot of counts for each of the last minutes, the current one last."""
    total, peak = sum(counts), max(counts)
    said = f"peak {peak:,}/min, {_ago(len(counts) - 1 - counts.index(peak))}" if peak else "none in the last hour"
    picture = Tag("svg")(*_axes(_nice(peak), len(counts)), *_bars(counts, _nice(peak)))
    label = f"{title}: {counted(total, 'time')} in the last hour, {said}"
    picture(viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", **{"aria-label": label})
    hour = tags.p(tags.strong(f"{total:,}"), tags.span("in the last hour", class_="quiet small"), class_="total")
    return tags.figure(tags.h2(title), hour, picture, tags.figcaption(said, class_="quiet small"), class_="card plot")


def _ago(minutes: int) -> str:
    return f"{minutes} min ago" if minutes else "now"


def _nice(peak: int) -> int:
    """Return the first of 1, 2, 5, 10, 20, ... that is not below the peak."""
    scale = 1
    while True:
        for step in _STEPS:
            if step * scale >= peak:
                return step * scale
        scale *= 10


def _axes(top: int, minutes: int) -> Iterator[Tag]:
    yield _line("grid", _LEFT, _TOP, _RIGHT, _TOP)
    yield _line("axis", _LEFT, _BOTTOM, _RIGHT, _BOTTOM)
    yield _text("per minute", _RIGHT, 12, "end")
    for value, y in ((top, _TOP), (0, _BOTTOM)):
        yield _text(f"{value:,}", _LEFT - 5, y + 4, "end")
    for ago in range(0, minutes + 1, _MINUTES_APART):
        x = _RIGHT - (_RIGHT - _LEFT) * ago / minutes
        yield _line("axis", x, _BOTTOM, x, _BOTTOM + 3)
        words, anchor = f"-{ago}", "middle"
        if ago == 0:
            words, anchor = "now", "end"
        elif ago == minutes:
            words, anchor = f"-{ago} min", "start"
        yield _text(words, x, _HEIGHT - 5, anchor)


def _bars(counts: Sequence[int], top: int) -> Iterator[Tag]:
    width, height = (_RIGHT - _LEFT) / len(counts), _BOTTOM - _TOP
    path = "".join(
        f"M{_LEFT + width * at:.2f} {_BOTTOM}v{-max(1.0, height * each / top):.2f}h{width * 0.76:.2f}V{_BOTTOM}z"
        for at, each in enumerate(counts)
        if each
    )
    if path:
        yield Tag("path")(class_="bars", d=path)


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Tag:
    return Tag("line")(class_=kind, x1=f"{x1:g}", y1=f"{y1:g}", x2=f"{x2:g}", y2=f"{y2:g}")


def _text(text: str, x: float, y: float, anchor: str) -> Tag:
    return Tag("text")(text, x=f"{x:g}", y=f"{y:g}", **{"text-anchor": anchor})
