"""The page that lists IDs, for operators."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlencode

import msgspec
from twisted.web.iweb import IRequest
from twisted.web.template import Element, Tag, renderer, tags

from rqdisco.core.plurals import counted
from rqdisco.core.verdicts import Health
from rqdisco.http.api.cluster_search import ClusterList, ClusterQuery, ListedCluster
from rqdisco.http.ui.assets import Assets
from rqdisco.http.ui.formatting import duration, escape_invisible, with_code

_HEADS = ("ID", "Health", "Nodes", "Leader", "Created")
_FOR_OPERATORS = (
    "IDs are secrets, so only operators see the list: with an admin token, or on the operator socket. To reach that in"
    " a browser, run `ssh -L 4001:/run/rqdisco/operator.sock HOST` and open `http://localhost:4001/clusters`."
)


class ClustersView(msgspec.Struct, frozen=True):
    """A page of IDs, and the search that found it. `found` is None for visitors who are no
    operators.
    """

    query: ClusterQuery
    found: ClusterList | None


class ClustersPage(Element):
    """The IDs of the service, or of a search, page by page."""

    def __init__(self, assets: Assets, view: ClustersView) -> None:
        super().__init__(loader=assets.templates["clusters"])
        self._query = view.query
        self._found = view.found

    @renderer
    def find(self, _: IRequest, tag: Tag) -> Tag | str:
        return "" if self._found is None else tag

    @renderer
    def search(self, _: IRequest, tag: Tag) -> Tag:
        return tag(value=self._query.search)

    @renderer
    def health(self, _: IRequest, tag: Tag) -> Tag:
        for value, words in (("", "any health"), *((each.value, each.value) for each in Health)):
            option = tags.option(words, value=value)
            tag(option(selected="selected") if value == (self._query.health or "") else option)
        return tag

    @renderer
    def found(self, _: IRequest, tag: Tag) -> Iterator[Tag | str]:
        if self._found is None:
            yield tags.p(*with_code(_FOR_OPERATORS), class_="note")
            return
        clusters = self._found.clusters
        if clusters:
            heads = [tags.th(each, scope="col", class_="number" if each == "Nodes" else "") for each in _HEADS]
            caption = tags.caption("Discovery IDs", class_="visually-hidden")
            table = tags.table(caption, tags.thead(tags.tr(*heads)), tags.tbody(*map(_row, clusters)))
            yield table(class_="list clusters")
        else:
            yield tags.p(self._nothing(), class_="quiet")
        yield from self._pages(clusters)

    def _nothing(self) -> str:
        assert self._found is not None
        if self._found.next is not None:
            return "Nothing found so far: the search goes on at the next page."
        if self._query.health is not None:
            return f"No ID that matches is {self._query.health.value}."
        if self._query.search:
            return f"No ID and no address contains “{escape_invisible(self._query.search)}”."
        return "No more IDs." if self._query.after else "No ID has been created yet."

    def _pages(self, clusters: list[ListedCluster]) -> Iterator[Tag]:
        assert self._found is not None
        links = []
        if self._query.after:
            links.append(tags.a("First page", href=_address(self._query, ""), class_="button"))
        if self._found.next is not None:
            links.append(tags.a("Next page", href=_address(self._query, self._found.next), class_="button"))
        if clusters or links:
            shown = tags.span(f"{counted(len(clusters), 'ID')} on this page", class_="quiet small")
            yield tags.nav(shown, tags.span(*links, class_="row"), class_="row apart", **{"aria-label": "Pages of IDs"})


def _address(query: ClusterQuery, after: str) -> str:
    parameters = (("search", query.search), ("health", query.health or ""), ("after", after))
    given = {name: value for name, value in parameters if value}
    return f"/clusters?{urlencode(given)}" if given else "/clusters"


def _row(cluster: ListedCluster) -> Tag:
    leader = "" if cluster.leader is msgspec.UNSET else escape_invisible(cluster.leader)
    health = cluster.health
    return tags.tr(
        tags.td(tags.a(cluster.disco_id, href=f"/{cluster.disco_id}"), class_="mono"),
        tags.td(tags.span(health.value, class_="badge", **{"data-health": health.value})),
        tags.td(f"{cluster.nodes:,}", class_="number", **{"data-what": "nodes"}),
        tags.td(tags.bdi(leader) if leader else "", class_="mono", **{"data-what": "leader"}),
        tags.td(f"{duration(cluster.age)} ago", class_="quiet when", **{"data-what": "created"}),
    )
