"""The site of `make docs`: pages of the repository, each at its own path: links hold in both.

A hook of mkdocs (mkdocs.yml). What pages lead to and is no page, such as a recipe or a folder of
examples, becomes a page that shows it; pages of public names are made here, from `__all__`.
"""

from __future__ import annotations

import posixpath
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from docs.made import HERE, LINK, PACKAGES, PAGES, is_shown, led_to, place_of, reference, shown

BESIDE = ("docs/*.png", "docs/*.svg", "docs/*.js")
_ITEM = re.compile(r" *([-*]|\d+\.) ")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of the site: pages and pictures of the repository, and pages that are made."""
    for file in [f for f in files if f.src_dir == config.docs_dir]:
        files.remove(file)
    paths = sorted({p for pattern in (*PAGES, *BESIDE) for p in HERE.glob(pattern)})
    for path in paths:
        place = path.relative_to(HERE).as_posix()
        files.append(File.generated(config, place, abs_src_path=str(path)))
    for path in sorted({to for page in paths if page.suffix == ".md" for to in led_to(page)}):
        level = InclusionLevel.NOT_IN_NAV
        made = File.generated(config, place_of(path), content=shown(path), inclusion=level)
        files.append(made)
    for package in PACKAGES:
        files.append(File.generated(config, f"api/{package}.md", content=reference(package)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """A page as this Markdown wants it: links to what is shown, and a blank line before a list.

    CommonMark, which code hosts read, lets a list follow a line of text; Python-Markdown does not.
    """
    at = posixpath.dirname(page.file.src_uri)

    def leading(link: re.Match[str]) -> str:
        path = HERE / posixpath.normpath(posixpath.join(at, link[1]))
        return posixpath.relpath(place_of(path), at or ".") if is_shown(path) else link[1]

    done: list[str] = []
    fenced = False
    for line in markdown.split("\n"):
        before = done[-1] if done else ""
        if not fenced and _ITEM.match(line) and before.strip() and not _in_list(done):
            done.append("")
        fenced ^= line.lstrip().startswith("```")
        done.append(line if fenced else LINK.sub(leading, line))
    return "\n".join(done)


def _in_list(lines: list[str]) -> bool:
    """Is the last line of an item?"""
    for line in reversed(lines):
        if not line.strip():
            return False
        if _ITEM.match(line):
            return True
    return False
