"""What answers all paths below it by itself, as Twisted calls it."""

from __future__ import annotations

from twisted.web.resource import Resource


class LeafResource(Resource):
    """A resource that has no others below it; `render` answers whatever is asked."""

    isLeaf = True  # noqa: N815, it is Twisted's

    def __init__(self) -> None:
        super().__init__()
