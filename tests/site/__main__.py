"""The site that `make docs` made: whole, alone, with every public name. Status 1 if not.

In a Chromium, where there is one, it is also opened from the disk, and searched.
"""

from __future__ import annotations

import ast
import re
import shutil
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from docs.made import PAGES, public_names
from tests.browser.chromium import Browser

HERE = Path(__file__).parents[2]
SITE = HERE / "build" / "site"
_LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class Html(HTMLParser):
    """What a page loads, leads to and names; how many rows and items its text has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.names: set[str] = set()
        self.counts = {"tr": 0, "li": 0, "pre": 0}
        self._inside = False
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in _LOADED and _LOADED[tag] in given:
            self.loaded.append(given[_LOADED[tag]])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        self.names |= {given[name] for name in ("id", "name") if name in given}
        self._inside |= tag == "article"
        if tag in self.counts and self._inside:
            self.counts[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        self._inside &= tag != "article"


def _written(page: Path) -> dict[str, int]:
    """How many rows, items and blocks of code a page of Markdown has."""
    parts = re.split(r"^ *(?:````?)\w*$", page.read_text(), flags=re.MULTILINE)
    text = "\n".join(parts[::2])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    rules = [line for line in rows if "-" in line and set(line) <= set("|-: ")]
    items = re.findall(r"^ *(?:[-*]|\d+\.) ", text, re.MULTILINE)
    return {"tr": len(rows) - len(rules), "li": len(items), "pre": len(parts) // 2}


def _made_of(page: Path) -> Path:
    place = page.with_name("index.html") if page.name == "README.md" else page.with_suffix(".html")
    return SITE / place.relative_to(HERE)


def _faults(pages: dict[Path, Html]) -> Iterator[str]:
    for path, page in pages.items():
        at = path.relative_to(SITE)
        for url in page.loaded:
            if urlsplit(url).netloc:
                yield f"{at} loads {url}"
        for url in [*page.loaded, *page.links]:
            split = urlsplit(url)
            if split.scheme in ("http", "https"):
                if not re.fullmatch(r"[\w-]+(\.[\w-]+)+(:\d+)?", split.netloc):
                    yield f"{at} leads to {url}, which is no address"
            elif split.scheme not in ("data", "mailto") and at.name != "404.html":
                there = path.parent / unquote(split.path) if split.path else path
                if not there.is_file():
                    yield f"{at} leads to {url}, which is not there"
                elif (
                    split.fragment
                    and there.suffix == ".html"
                    and unquote(split.fragment) not in pages[there.resolve()].names
                ):
                    yield f"{at} leads to {url}, which {there.name} does not name"
    for style in SITE.rglob("*.css"):
        for url in re.findall(r"(?:url\(|@import )\s*[\"']?(https?:|//)", style.read_text()):
            yield f"{style.relative_to(SITE)} loads from {url}"
    for page in sorted({page for pattern in PAGES for page in HERE.glob(pattern)}):
        made, written = pages[_made_of(page)].counts, _written(page)
        for what, count in written.items():
            if made[what] != count:
                yield f"{page.relative_to(HERE)} has {count} of {what}, its page {made[what]}"


def _missing(pages: dict[Path, Html]) -> Iterator[str]:
    """Public names, and names that the pages' Python uses, that the reference does not have."""
    named: set[str] = set()
    for path in (SITE / "api").glob("*.html"):
        named |= pages[path].names
    for package in ("dicom2cache", "trainer_adapter", "trainer_adapter.lightly"):
        for name in public_names(package):
            if f"{package}.{name}" not in named:
                yield f"{package}.{name} is public, and not in the reference"
    for page in (HERE / "docs").glob("*.md"):
        for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
            for node in ast.walk(ast.parse(code)):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith(
                    ("dicom2cache", "trainer_adapter")
                ):
                    used = {f"{node.module}.{alias.name}" for alias in node.names} - {
                        "trainer_adapter.lightly"
                    }
                elif (
                    isinstance(node, ast.Attribute)
                    and isinstance(node.value, ast.Name)
                    and node.value.id == "cache"
                ):
                    used = {f"trainer_adapter.Cache.{node.attr}"}
                else:
                    continue
                yield from (f"{page.name} uses {u}: not in the reference" for u in used - named)


def _opened() -> Iterator[str]:
    """What is wrong in a browser: messages, requests to elsewhere, a search without results."""
    browser = Browser()
    try:
        browser.call("Emulation.setFocusEmulationEnabled", enabled=True)
        browser.open(SITE / "docs" / "train.html", False, 1300, 900)
        browser.value("document.querySelector('[data-md-toggle=search]').click()")
        browser.value("document.querySelector('.md-search__input').focus()")
        browser.call("Input.insertText", text="monochrome")
        browser.call("Input.dispatchKeyEvent", type="keyUp", key="e")
        links = "[...document.querySelectorAll('.md-search-result__link')].map(a => a.href).join()"
        end = time.monotonic() + 30
        while "docs/pixels.html" not in str(found := browser.value(links)):
            if time.monotonic() > end:
                yield f"a search for monochrome finds {found!r}, and not docs/pixels.html"
                break
            time.sleep(0.1)
        for event in browser.events:
            said = event.get("params", {})
            if event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                yield f"the browser says {said}"
            url = said.get("request", {}).get("url", "file:")
            if not url.startswith(("file:", "data:", "blob:")):
                yield f"the browser asks for {url}"
    finally:
        browser.close()


def main() -> int:
    """Print what is wrong with the site; 1 if anything is."""
    pages = {path.resolve(): Html(path) for path in SITE.rglob("*.html")}
    assert len(pages) > 30
    faults = [*_faults(pages), *_missing(pages)]
    if shutil.which("chromium"):
        faults += _opened()
    else:
        print("no chromium: the site was not opened in a browser")
    print(*faults, sep="\n")
    links = sum(len(page.links) for page in pages.values())
    print(f"{SITE}/index.html: {len(pages)} pages, {links} links; {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
