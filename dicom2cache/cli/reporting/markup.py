"""HTML by construction: whatever is a text is escaped, so that no header can write markup. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from dicom2cache.cli.words import one_line


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


_EMPTY = {"meta", "img", "br", "rect", "line", "path"}
"""elements that have no end tag: of HTML, and those of SVG that are drawn without content"""


def element(name: str, /, *inside: object, **attributes: object) -> Html:
    """An element; what is inside is escaped unless it is Html, and None is left out.

    `class_` is the attribute class, `_` in a name is a hyphen; attributes that are None are left
    out.
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY and not inside:
        return Html(f"<{name}{said}{'/' * (name in _DRAWN)}>")
    return Html(f"<{name}{said}>{joined(inside)}</{name}>")


_DRAWN = {"rect", "line", "path"}


def joined(parts: Iterable[object]) -> Html:
    """The parts one after another, each escaped unless it is Html; None is left out."""
    return Html("".join(p if isinstance(p, Html) else text(p) for p in parts if p is not None))


def text(value: object) -> Html:
    """A text, escaped, and with escapes for characters that cannot be seen or turn the writing."""
    return Html(escape(one_line(str(value))))


def lines(value: str) -> Html:
    """A text of several lines, each as `text`."""
    return Html("\n".join(map(text, value.split("\n"))))


def table(
    caption: str | None,
    heads: Sequence[str],
    rows: Iterable[Iterable[object]],
    numbers: Iterable[int],
) -> Html:
    """A table; the columns `numbers` are right-aligned. The first column heads its row."""
    right = set(numbers)

    def cell(k: int, value: object, head: bool) -> Html:
        kind = "th" if head or not k else "td"
        scope = "col" if head else "row" if not k else None
        return element(kind, value, scope=scope, class_="n" if k in right else None)

    head = element("tr", *(cell(k, name, True) for k, name in enumerate(heads)))
    body = [element("tr", *(cell(k, v, False) for k, v in enumerate(row))) for row in rows]
    above = None if caption is None else element("caption", caption)
    whole = element("table", above, element("thead", head), element("tbody", *body))
    label = heads[0] if caption is None else caption
    return element("div", whole, class_="wide", tabindex="0", role="region", aria_label=label)
