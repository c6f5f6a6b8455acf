"""Pages of the site that are made: of what pages lead to, and of public names."""

from __future__ import annotations

import ast
import json
import posixpath
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
PAGES = (
    "*.md",
    "dicom2cache/FORMAT.md",
    "docs/*.md",
    "benchmarks/results/*.md",
    "packaging/README.md",
)
PACKAGES = ("dicom2cache", "trainer_adapter", "trainer_adapter.lightly")
LINK = re.compile(r"(?<=\]\()([^)#\s]+)(?=[)#])")


def led_to(page: Path) -> set[Path]:
    links = (link for link in LINK.findall(page.read_text()) if ":" not in link)
    paths = (Path(posixpath.normpath((page.parent / link).as_posix())) for link in links)
    return {path for path in paths if is_shown(path)}


def is_shown(path: Path) -> bool:
    """Is it of the repository, and neither a page nor a picture?"""
    return path.is_relative_to(HERE) and (
        path.is_dir() or (path.is_file() and path.suffix not in (".md", ".png", ".svg"))
    )


def place_of(path: Path) -> str:
    place = path.relative_to(HERE).as_posix()
    return f"{place}/index.md" if path.is_dir() else f"{place}.md"


def shown(path: Path) -> str:
    """A page with the text of a file, or of all files of a folder."""
    parts = [f"# {path.relative_to(HERE).as_posix()}\n"]
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if not file.is_file():
            continue
        parts += [f"## {file.name}\n"] if path.is_dir() else []
        if file.suffix == ".ipynb":
            for cell in json.loads(file.read_text())["cells"]:
                text = "".join(cell["source"])
                code = cell["cell_type"] == "code"
                parts.append(_fence(text, "python") if code else re.sub("^#", "###", text) + "\n")
        else:
            kind = {".py": "python", ".toml": "toml", ".sbatch": "bash"}.get(file.suffix, "text")
            parts.append(_fence(file.read_text(), kind))
    return "\n".join(parts)


def _fence(text: str, kind: str) -> str:
    return f"````{kind}\n{text.rstrip()}\n````\n"


def _tree(package: str) -> ast.Module:
    return ast.parse((HERE / package.replace(".", "/") / "__init__.py").read_text())


def public_names(package: str) -> list[str]:
    """`__all__` of a package, without its version."""
    assigned: dict[str, Any] = {
        target.id: node.value
        for node in _tree(package).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return [name for name in ast.literal_eval(assigned["__all__"]) if name != "__version__"]


def reference(package: str) -> str:
    """The page of a package's public names: what can be called, then what is raised."""
    tree, public = _tree(package), public_names(package)
    raised = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).endswith(".errors")
        for alias in node.names
    }
    told = (ast.get_docstring(tree) or "").split("\n\n")[0]
    lines = [f"# {package}\n", f"{told}\n"]
    for name in public:
        if name == "Recipe":  # its keys have a page
            lines.append(f"::: {package}.{name}\n    options: {{ show_signature: false }}\n")
            lines.append(
                "Its keywords are the keys of a recipe: [docs/recipe.md](../docs/recipe.md).\n"
            )
        elif name not in raised:
            lines.append(f"::: {package}.{name}\n")
    if raised:
        lines.append("## What is raised\n")
        three = "    options: { heading_level: 3, inherited_members: false }"
        lines += [f"::: {package}.{name}\n{three}\n" for name in public if name in raised]
    return "\n".join(lines)
