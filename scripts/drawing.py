"""Pictures as SVG: text, cells, boxes and arrows on a card of its own, which follows the reader's light or dark scheme.

Every picture has a title and a description for those who do not see it, and refers to nothing outside itself.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from xml.etree import ElementTree

NAMESPACE = "http://www.w3.org/2000/svg"
#: Fills of the cells, by name: on a light and on a dark card.
TINTS = {
    "tint0": ("#c9e2f8", "#174871"),
    "tint1": ("#fbdcae", "#7a4a08"),
    "tint2": ("#c4ead6", "#125c45"),
    "tint3": ("#efd0e4", "#74315a"),
    "tint4": ("#f3eea6", "#5f5a12"),
    "tint5": ("#f8cbb8", "#7c331a"),
    "tint6": ("#cfeef5", "#125568"),
    "tint7": ("#dcd6f3", "#46397f"),
    "blank": ("#eceff2", "#262d36"),
}
#: Pixels: left and right of what stands on a card, between two lines of text, and what a character takes on average in
#: the widest of the fonts.
EDGE, LINE, WIDEST = 36, 19, 6.9
_SHAPES = """
text { font-family: system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", Helvetica, Arial, sans-serif; }
.middle { text-anchor: middle; }
.end { text-anchor: end; }
.head { font-size: 15px; font-weight: 600; }
.body { font-size: 13px; }
.number { font-size: 11.5px; font-variant-numeric: tabular-nums; }
.small { font-size: 10px; font-variant-numeric: tabular-nums; }
.frame { fill: none; stroke-width: 2.5; }
.line { fill: none; stroke-width: 1.5; }
"""
_COLOURS = """
.card {{ fill: {card}; stroke: {edge}; }}
.ink {{ fill: {ink}; }}
.quiet {{ fill: {quiet}; }}
.cell {{ stroke: {card}; }}
.frame {{ stroke: {ink}; }}
.line {{ stroke: {quiet}; }}
.point {{ fill: {quiet}; }}
"""
_LIGHT = {"card": "#ffffff", "edge": "#d0d7de", "ink": "#1f2328", "quiet": "#59636e"}
_DARK = {"card": "#151b23", "edge": "#3d444d", "ink": "#f0f6fc", "quiet": "#9aa4af"}


def style_sheet() -> str:
    """The classes that a drawing's elements have."""
    schemes = []
    for number, colours in enumerate((_LIGHT, _DARK)):
        tints = "".join(f".{name} {{ fill: {fills[number]}; }}\n" for name, fills in TINTS.items())
        schemes.append(_COLOURS.format(**colours) + tints)
    light, dark = schemes
    return f"{_SHAPES}{light}@media (prefers-color-scheme: dark) {{{dark}}}\n"


class Drawing:
    """A card of ``width`` x ``height`` pixels under its title, that things are put on, the latest on top."""

    def __init__(self, title: str, description: str, width: int, height: int) -> None:
        size = {"width": str(width), "height": str(height), "viewBox": f"0 0 {width} {height}"}
        spoken = {"role": "img", "aria-labelledby": "title description"}
        self._root = ElementTree.Element("svg", {"xmlns": NAMESPACE} | size | spoken)
        ElementTree.SubElement(self._root, "title", id="title").text = title
        ElementTree.SubElement(self._root, "desc", id="description").text = " ".join(description.split())
        ElementTree.SubElement(self._root, "style").text = style_sheet()
        head = {"id": "head", "viewBox": "0 0 8 8", "refX": "7", "refY": "4", "orient": "auto-start-reverse"}
        head |= {"markerWidth": "8", "markerHeight": "8", "markerUnits": "userSpaceOnUse"}
        marker = ElementTree.SubElement(ElementTree.SubElement(self._root, "defs"), "marker", head)
        ElementTree.SubElement(marker, "path", {"class": "point", "d": "M0 0 8 4 0 8z"})
        self._rectangle("card", 0.5, 0.5, width - 1, height - 1, rx="10")
        self.text(EDGE, 32, title, "head ink")

    def text(self, x: float, y: float, content: str, kind: str = "body ink") -> None:
        """A line of text whose baseline begins at (x, y); kind: its classes."""
        self._add("text", kind, {"x": _number(x), "y": _number(y)}).text = content

    def paragraphs(self, x: float, y: float, width: float, *paragraphs: str) -> None:
        """Text in lines that fit in ``width``, the first with its baseline at y."""
        for paragraph in paragraphs:
            for line in textwrap.wrap(paragraph, int(width / WIDEST)):
                self.text(x, y, line)
                y += LINE
            y += LINE / 2

    def box(self, x: float, y: float, width: float, height: float, label: str, kind: str, font: str = "number") -> None:
        """A box with a label in its middle; kind: the classes that fill it."""
        self._rectangle(f"cell {kind}", x, y, width, height, rx="2")
        if label:
            self.text(x + width / 2, y + height / 2 + 4, label, f"{font} middle ink")

    def grid(self, x: float, y: float, size: float, labels: Sequence, kinds: Sequence, font: str = "number") -> None:
        """Square cells; labels and kinds: of each cell, by row and column."""
        for row, (names, fills) in enumerate(zip(labels, kinds, strict=True)):
            for column, (label, kind) in enumerate(zip(names, fills, strict=True)):
                self.box(x + column * size, y + row * size, size, size, str(label), kind, font)

    def frame(self, x: float, y: float, width: float, height: float) -> None:
        """An outline around something."""
        self._rectangle("frame", x, y, width, height, rx="3")

    def arrow(self, *points: tuple[float, float]) -> None:
        """A line along the points, with a head at the last."""
        path = "M" + " ".join(f"{_number(x)} {_number(y)}" for x, y in points)
        self._add("path", "line", {"d": path, "marker-end": "url(#head)"})

    def source(self) -> str:
        """The SVG file's text."""
        ElementTree.indent(self._root)
        return ElementTree.tostring(self._root, encoding="unicode") + "\n"

    def _rectangle(self, kind: str, x: float, y: float, width: float, height: float, rx: str) -> None:
        numbers = {"x": x, "y": y, "width": width, "height": height}
        self._add("rect", kind, {name: _number(value) for name, value in numbers.items()} | {"rx": rx})

    def _add(self, tag: str, kind: str, attributes: dict[str, str]) -> ElementTree.Element:
        return ElementTree.SubElement(self._root, tag, {"class": kind} | attributes)


def _number(value: float) -> str:
    """Without an end that says nothing: 3 for 3.0."""
    return f"{value:.6g}"
