"""What stands under the help of each command: an example, and the page that says more."""

from __future__ import annotations

EXAMPLES = {
    "build": ("build scans/ cache/ --exclude localizer --jobs 8", "docs/convert.md"),
    "plan": ("plan scans/ cache/ --recipe mixed --report plan.html", "docs/recipe.md"),
    "convert": ("convert cache/ --part 3/64", "docs/convert.md#many-nodes"),
    "commit": ("commit cache/", "docs/convert.md#many-nodes"),
    "update": ("update scans/ cache/", "docs/convert.md#files-that-come-later"),
    "remove": (
        "remove cache/ --patient-id 4711 --dry-run", "docs/convert.md#frames-that-must-go",
    ),
    "purge": ("purge cache/", "docs/convert.md#frames-that-must-go"),
    "merge": ("merge site-a/ site-b/ cache/", "docs/convert.md#caches-of-several-sites"),
    "verify": ("verify cache/ --deep 0.01", "docs/convert.md#checking"),
    "repair": ("repair cache/ --source scans/", "docs/reliability.md"),
    "info": ("info cache/", "docs/convert.md#checking"),
    "slurm": (
        "slurm scans/ cache/ --time 4:00:00 --nodes 4 -o job.sbatch", "docs/convert.md#slurm",
    ),
    "compare": ("compare old/ new/", "docs/old-caches.md"),
    "split": ("split cache/ split.csv --fractions 0.8,0.1,0.1", "docs/splits.md"),
    "export": ("export cache/ volumes/ --to nifti", "docs/volumes.md"),
    "labels": ("labels cache/ predicted/ segmentations/ --classes liver,spleen", "docs/volumes.md"),
    "report": ("report cache/ -o report.html", "docs/report.md"),
    "show": ("show cache/ 12 --window lung", "docs/report.md"),
    "failures": ("failures cache/ --outcome failed", "docs/report.md"),
    "doctor": ("doctor cache/ --json", "docs/convert.md#is-this-machine-fit"),
    "key show": ("key show", "docs/privacy.md"),
    "key export": ("key export patient.key", "docs/privacy.md"),
    "key check": ("key check cache/", "docs/privacy.md"),
}  # fmt: skip
"""{command: (an example, the page)}; the pages are in the repository"""


def added(command: str) -> str:
    """The lines under its help; a blank line between them, as Typer has it."""
    example, page = EXAMPLES[command]
    return f"Example: dicom2cache {example}\n\nMore: {page}"
