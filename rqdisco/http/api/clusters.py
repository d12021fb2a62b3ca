"""The list of IDs for operators: `GET /operator/clusters`."""

from __future__ import annotations

from rqdisco.core.ids import is_id
from rqdisco.core.verdicts import Health
from rqdisco.http.api.cluster_search import DEFAULT_CLUSTERS, MAX_CLUSTERS, ClusterQuery, ClusterSearch
from rqdisco.http.requests.api import Api
from rqdisco.http.requests.authorization import Authorizer
from rqdisco.http.requests.documents import encode_object
from rqdisco.http.requests.request import Request
from rqdisco.http.requests.responses import BadRequest, Response
from rqdisco.http.requests.runner import ApiRunner
from rqdisco.security.tokens import Token

MAX_SEARCH = 200


class ClustersAPI(Api):
    """Lists IDs; `search` finds them."""

    not_found_right = "admin"

    def __init__(self, search: ClusterSearch, runner: ApiRunner, authorizer: Authorizer | None = None) -> None:
        super().__init__(runner, authorizer)
        self._search = search

    async def list_clusters(self, request: Request, token: Token | None) -> Response:
        """Return a page of the IDs that match."""
        return Response(200, encode_object(await self._search.find(cluster_query(request))))


def cluster_query(request: Request) -> ClusterQuery:
    """Return the search that a query string asks for. Raises BadRequest."""
    given = {name: values[-1] for name, values in request.parameters().items()}
    try:
        search, after = (given.get(name, b"").decode() for name in (b"search", b"after"))
    except UnicodeDecodeError:
        raise BadRequest("`search` and `after` must be UTF-8") from None
    if len(search) > MAX_SEARCH:
        raise BadRequest(f"`search` has more than {MAX_SEARCH} characters")
    if after and not is_id(after):
        raise BadRequest("`after` must be the `next` of a page")
    limit = _limit(given.get(b"limit", b""))
    return ClusterQuery(search=search, health=_health(given.get(b"health", b"")), after=after, limit=limit)


def _health(text: bytes) -> Health | None:
    if not text:
        return None
    try:
        return Health(text.decode("ascii", "replace"))
    except ValueError:
        raise BadRequest(f"`health` must be one of {', '.join(Health)}") from None


def _limit(text: bytes) -> int:
    if not text:
        return DEFAULT_CLUSTERS
    limit = int(text) if text.isdigit() and len(text) < 5 else 0
    if not 1 <= limit <= MAX_CLUSTERS:
        raise BadRequest(f"`limit` must be from 1 to {MAX_CLUSTERS}")
    return limit
