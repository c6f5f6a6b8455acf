"""A datasheet to paste into a paper's appendix: what the cache knows, and blanks. Pure.

The questions are those of Gebru et al., Datasheets for Datasets (2021).
"""

from __future__ import annotations

from collections.abc import Iterator

from dicom2cache.cli.reporting.charts import BETWEEN, counting, grouped, number
from dicom2cache.cli.reporting.contents import Contents
from dicom2cache.cli.reporting.facts import Part

_MOST = 12


def datasheet(about: Contents) -> str:
    """Markdown, a fact a line."""
    return "\n".join(_lines(about)).replace(BETWEEN, ",")


def _lines(about: Contents) -> Iterator[str]:
    facts, whole = about.facts, about.facts.whole
    yield "# Datasheet"
    yield "After Gebru et al., Datasheets for Datasets, 2021. [Brackets] are to be filled in."
    yield ""
    yield "## Motivation"
    yield "- [For which purpose was the data set made, by whom, funded by whom?]"
    yield ""
    yield "## Composition"
    yield f"- Instances: {_amount(whole)}; {counting(whole.stacks, 'stack')}, of which "
    yield f"  {grouped(sum(s.regular for s in facts.stacks))} are volumes with even steps."
    for part in facts.parts[:_MOST]:
        yield f"- {' '.join(part.names)}: {_amount(part)}."
    for value in facts.values[:_MOST]:
        said = {"": " (colour)", "US": " (no unit)"}.get(value.unit, f" in {value.unit}")
        line = f"- Values of {value.modality}{said}: {counting(value.frames, 'frame')}"
        if value.middle:
            low, middle, high = map(number, value.middle)
            line += f", percentiles 1, 50, 99 (medians over frames): {low}, {middle}, {high}"
        yield f"{line}; stored as {value.dtype}."
    yield f"- Sizes (rows × columns): {_list(facts.sizes, 'frame')}."
    yield f"- Patients' sex (from headers): {_list(facts.words['sex'], 'patient')}."
    for modality, shapes in facts.spread[:_MOST]:
        for found in shapes:
            if found.what == "Age":
                span = f"{number(found.low)} to {number(found.high)}"
                yield (
                    f"- Age, {modality}: {counting(found.known, 'patient')}, {span} years, median "
                    f"{number(found.median)}."
                )
    if facts.anonymous:
        yield f"- {counting(facts.anonymous, 'frame')} without a patient's ID."
    if about.identifying:
        yield f"- Machines: {_list(facts.words['manufacturer'], 'frame')}."
    yield f"- Compressed with loss: {_truth(facts.words['lossy'])}."
    yield f"- Text burned into the pixels, says the header: {_truth(facts.words['burned_in'])}."
    if facts.flags:
        named = ", ".join(f"{flag} {grouped(n)}" for flag, n, _ in facts.flags)
        yield f"- Oddities that were dealt with (frames): {named}."
    if about.unstored:
        outcomes: dict[str, int] = {}
        for group in about.unstored:
            outcomes[group.outcome] = outcomes.get(group.outcome, 0) + group.rows
        yield (
            "- Not stored (files, or frames of some): "
            f"{', '.join(f'{name} {grouped(n)}' for name, n in outcomes.items())}."
        )
    if about.sides:
        yield f"- Split: {'; '.join(f'{s.names[0]} {_amount(s)}' for s in about.sides)}."
    yield "- [Labels, their makers and their agreement; known errors and biases; ethics approval.]"
    yield ""
    yield "## Collection"
    yield "- [Which scanners, protocols, dates and sites; who was left out and why; consent.]"
    yield ""
    yield "## Preprocessing"
    for line in about.made:
        yield f"- {line}"
    yield "- [Cropping, registration, labels: what was done besides.]"
    yield ""
    yield "## Uses, distribution, maintenance"
    yield "- [What it was and may be used for, and what not; licence; who keeps it; how to cite.]"


def _amount(part: Part) -> str:
    return (
        f"{counting(part.frames, 'frame')} of {counting(part.files, 'file')}, "
        f"{counting(part.series, 'series', 'series')}, {counting(part.studies, 'study', 'studies')}"
        f", {counting(part.patients, 'patient')}"
    )


def _list(rows: object, of: str) -> str:
    assert isinstance(rows, list | tuple)
    if not rows:
        return "not said"
    name, count = rows[0]
    first = f"{name or 'not said'} {counting(count, of)}"
    return ", ".join([first, *(f"{name or 'not said'} {grouped(n)}" for name, n in rows[1:])])


def _truth(rows: list[tuple[str | None, int]]) -> str:
    words = {"true": "yes", "false": "no", None: "not said"}
    return ", ".join(f"{words.get(name, name)} {counting(n, 'frame')}" for name, n in rows)
