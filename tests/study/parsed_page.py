"""A report as its reader meets it: the parsed page and the rows of its CSV files."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "br", "wbr", "link", "img", "hr"}


@dataclass
class Node:
    """An element of the parsed page."""

    tag: str
    attributes: dict[str, str | None]
    children: "list[Node | str]" = field(default_factory=list)

    def walk(self) -> "Iterator[Node]":
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.walk()

    def find(self, tag: str, **attributes: str) -> "list[Node]":
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [n for n in self.walk() if n.tag == tag and wanted.items() <= n.attributes.items()]

    def section(self, name: str) -> "Node":
        return self.find("section", id=name)[0]

    @property
    def text(self) -> str:
        found = "".join(child if isinstance(child, str) else child.text for child in self.children)
        return re.sub(r"\s+", " ", found)

    def rows(self) -> list[list[str]]:
        return [[c.text.strip() for c in r.children if isinstance(c, Node)] for r in self.find("tr")]


class Parser(HTMLParser):
    """Builds the tree and insists that every element is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Node("root", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, dict(attrs))
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Node(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read_page(folder: Path) -> Node:
    """The page of a report."""
    parser = Parser()
    parser.feed((folder / "index.html").read_text(encoding="utf-8"))
    parser.close()
    assert len(parser.open) == 1
    return parser.root


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
