"""A page as its tests read it."""

from __future__ import annotations

from html.parser import HTMLParser


class Elements(HTMLParser):
    """The elements of a page, the text of its scripts, and the text of its sections by their ids."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.sections = {"": ""}
        self.inside = ""
        self.section = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")
        if tag == "section":
            self.section = dict(attrs).get("id") or "finding"
        self.sections[self.section] = self.sections.get(self.section, "") + " "

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.sections[self.section] += data

    def words(self, section: str) -> str:
        """The text of a section, its white space levelled."""
        return " ".join(self.sections[section].split())

    @property
    def text(self) -> str:
        return " ".join("".join(self.sections.values()).split())
