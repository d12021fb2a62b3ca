"""A resource that answers all paths below it."""

from __future__ import annotations

from twisted.web.resource import Resource


class LeafResource(Resource):
    """A resource without children."""

    isLeaf = True  # noqa: N815, the name is Twisted's

    def __init__(self) -> None:
        super().__init__()
