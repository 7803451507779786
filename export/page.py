"""A page for people in one HTML file: what it may consist of, and how that becomes the file."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass

from export.pictures import heat_colours
from training.pages import fill_template


@dataclass(frozen=True)
class Figure:
    """A picture with what to see in it; `alt` says what it is where it cannot be seen."""

    png: bytes
    alt: str
    caption: str
    is_photo: bool = False


@dataclass(frozen=True)
class HeatMaps:
    """What `export.pictures.side_by_side` drew, with the names of its columns."""

    png: bytes
    alt: str
    caption: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Cells as text; the first of a row names it."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it, in this order."""

    title: str
    paragraphs: tuple[str, ...]
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    heat_maps: tuple[HeatMaps, ...] = ()


@dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes:
        summary: what everyone should read, a sentence or two each.
        warnings: what speaks against trusting it.
        facts: name and value of what it is about.
    """

    title: str
    summary: tuple[str, ...]
    warnings: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]


def render(page: Page) -> str:
    """One HTML file that needs nothing else: pictures inside, no script."""
    content = {"page": page, "heat_colours": heat_colours(), "base64": lambda png: b64encode(png).decode()}
    return fill_template(__package__, "page.html.j2", content)
