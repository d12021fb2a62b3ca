"""Pages as a browser asks for them and parses them."""

from __future__ import annotations

from html.parser import HTMLParser

from tests.http.conftest import Answer, ApiClient

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
HOSTILE = [
    '"><script>alert(1)</script>:1',
    "'onmouseover='alert(1)':1",
    "</script><img/src=x/onerror=alert(1)>:1",
    "]]><svg/onload=alert(1)>:1",
    "&lt;b&gt;{{7*7}}:1",
    "\u202e1004:0.0.01:1",
]


class Page(HTMLParser):
    """A page parsed as a browser does: its elements with their attributes, and its text."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(answer.body.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def health(self) -> str | None:
        """The verdict in the headline."""
        (badge,) = [each for each in self.all("span") if each.get("id") == "health"]
        return badge["data-health"]

    @property
    def current(self) -> list[str | None]:
        """The links that are marked as the current page."""
        return [each["href"] for each in self.all("a") if each.get("aria-current") == "page"]

    @property
    def main(self) -> dict[str, str | None]:
        (main,) = self.all("main")
        return main


async def page(api: ApiClient, path: str, **headers: str) -> Page:
    answer = await api("GET", path, Accept=BROWSER, **headers)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Page(answer)
