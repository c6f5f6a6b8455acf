"""Histograms and bars as inline SVG, drawn here: no library, no script, colours from the page."""

from __future__ import annotations

import math

from dicom2cache.cli.reporting.markup import Html, element, joined
from dicom2cache.cli.reporting.shapes import Histogram

_WIDTH, _HEIGHT = 256, 72
BETWEEN = "\u202f"
"""a narrow blank that is not broken at"""


def number(value: float) -> str:
    """A number for a person: 3 digits, or all before the point, thousands apart."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e9:
        return grouped(int(value))
    said = f"{value:.3g}" if abs(value) < 1000 or abs(value) >= 1e9 else f"{value:,.0f}"
    return said.replace(",", BETWEEN).replace("-", "−")


def grouped(count: int) -> str:
    """A whole number with a narrow blank between thousands."""
    return f"{count:,}".replace(",", BETWEEN).replace("-", "−")


def counting(count: int, one: str, many: str | None = None) -> str:
    """Such as `1 frame` and `2 frames`."""
    return f"{grouped(count)} {one if count == 1 else many or one + 's'}"


def drawn(found: Histogram) -> Html:
    """A figure of a histogram with its ends, its median and how many are not in it."""
    unit = f" {found.unit}" if found.unit else ""
    title = f"{found.what}{f' ({found.unit})' if found.unit else ''}"
    median = f"median {number(found.median)}{unit}"
    of = counting(found.known, found.of.removesuffix("s"))
    if found.low == found.high:
        figure = element(
            "p", f"{'all ' * (found.known > 1)}{number(found.low)}{unit}", class_="all"
        )
    else:
        figure = _svg(found, f"{title}: {of} from {number(found.low)} to {number(found.high)}, "
                      f"{median}")  # fmt: skip
    notes = [of, median if found.low != found.high else None]
    if found.outside:
        notes.append(f"{grouped(found.outside)} beyond")
    if found.unknown:
        notes.append(f"{grouped(found.unknown)} not said")
    names = [name for name, _ in found.curves if name]
    key = [
        element("span", element("i", class_=f"c{k}"), name, class_="key")
        for k, name in enumerate(names)
    ]
    caption = element(
        "figcaption", element("b", title), element("span", " · ".join(n for n in notes if n)), *key
    )
    return element("figure", figure, caption, class_="chart")


def _svg(found: Histogram, label: str) -> Html:
    bins = len(found.curves[0][1])
    most = max(max(counts) for _, counts in found.curves) or 1
    step = _WIDTH / bins
    shapes = [
        _bars(counts, k, most, step) if len(found.curves) == 1 else _outline(counts, k, most, step)
        for k, (_, counts) in enumerate(found.curves)
    ]
    if found.low <= found.median <= found.high:
        x = round((found.median - found.low) / (found.high - found.low) * _WIDTH, 1)
        shapes.append(element("line", x1=x, x2=x, y1=0, y2=_HEIGHT, class_="median"))
    axis = element("line", x1=0, x2=_WIDTH, y1=_HEIGHT, y2=_HEIGHT, class_="axis")
    drawing = element(
        "svg", element("title", label), *shapes, axis, viewBox=f"0 0 {_WIDTH} {_HEIGHT + 1}",
        role="img", preserveAspectRatio="none",
    )  # fmt: skip
    ends = element(
        "div", element("span", number(found.low)), element("span", number(found.high)),
        class_="ends", aria_hidden="true",
    )  # fmt: skip
    return joined([drawing, ends])


def _bars(counts: tuple[int, ...], curve: int, most: int, step: float) -> Html:
    return joined(
        element(
            "rect",
            x=round(k * step + 0.5, 1),
            y=round(_HEIGHT - _tall(count, most), 1),
            width=round(step - 1, 1),
            height=round(_tall(count, most), 1),
            class_=f"c{curve}",
        )
        for k, count in enumerate(counts)
        if count
    )


def _outline(counts: tuple[int, ...], curve: int, most: int, step: float) -> Html:
    """An area with steps: several are seen through each other."""
    points = [f"M0 {_HEIGHT}"]
    for k, count in enumerate(counts):
        y = round(_HEIGHT - _tall(count, most), 1)
        points.append(f"L{round(k * step, 1)} {y}L{round((k + 1) * step, 1)} {y}")
    return element("path", d="".join([*points, f"L{_WIDTH} {_HEIGHT}Z"]), class_=f"c{curve} area")


def _tall(count: int, most: int) -> float:
    """Height of a bar; one that is there is seen."""
    return max(1.5, count / most * (_HEIGHT - 2)) if count else 0.0


def share(count: float, whole: float) -> Html:
    """A bar as long as a share, for a cell of a table; the number stands beside it."""
    width = 100 * count / whole if whole else 0
    return element(
        "svg", element("rect", width=round(width, 1), height=8, rx=2, class_="c1"),
        viewBox="0 0 100 8", class_="share", aria_hidden="true", preserveAspectRatio="none",
    )  # fmt: skip
