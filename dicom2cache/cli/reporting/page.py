"""The page: one HTML file without scripts, which opens offline and fetches nothing."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from dicom2cache.cli.report import size
from dicom2cache.cli.reporting.charts import counting, drawn, grouped, number, share
from dicom2cache.cli.reporting.contents import Array, Contents, Picture
from dicom2cache.cli.reporting.datasheet import datasheet
from dicom2cache.cli.reporting.markup import Html, element, joined, lines, table, text
from dicom2cache.cli.reporting.meanings import meanings
from dicom2cache.cli.reporting.unstored import OUTCOMES

MARK = "<!doctype html>\n<!-- a report by dicom2cache -->\n"
"""how each report begins"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_UNITS = {"": "none (colour)", "US": "US (unspecified)"}
_FIRST = 12
"""arrays that are seen at once"""
_MOST = 200
"""rows of a table"""


def page_of(about: Contents) -> str:
    """The page as a document of HTML 5."""
    sections = [(name, title, body) for name, title, body in _sections(about) if body]
    contents = element(
        "nav",
        element("ol", *(element("li", element("a", t, href=f"#{n}")) for n, t, _ in sections)),
        aria_label="Contents",
    )
    main = element(
        "main", _head(about),
        *(element("section", element("h2", t), b, id=n) for n, t, b in sections), _foot(about),
    )  # fmt: skip
    head = element(
        "head", element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="robots", content="noindex"),
        element("title", about.title), element("style", _style()),
    )  # fmt: skip
    body = element("body", element("div", contents, main, class_="page"))
    return f"{MARK}{element('html', head, body, lang='en')}\n"


@cache
def _style() -> Html:
    return Html(files("dicom2cache.cli.reporting").joinpath("page.css").read_text("utf-8"))


def _head(about: Contents) -> Html:
    whole = about.facts.whole
    failed = sum(group.rows for group in about.unstored if group.outcome == "failed")
    rest = sum(group.rows for group in about.unstored) - failed
    figures = [
        ("Frames", grouped(whole.frames), None),
        ("Modalities", grouped(len({p.names[0] for p in about.facts.parts})), None),
        ("Patients", grouped(whole.patients), None),
        ("Studies", grouped(whole.studies), None), ("Series", grouped(whole.series), None),
        ("Stacks", grouped(whole.stacks), None), ("Source files", grouped(whole.files), None),
        ("Size", size(about.bytes), None),
        ("Failed", grouped(failed), "bad" if failed else None),
        ("Left out", grouped(rest), None),
    ]  # fmt: skip
    cells = [
        element("div", element("dt", name), element("dd", value), class_=kind)
        for name, value, kind in figures
    ]
    kind = "plan" if about.is_plan else "cache"
    return element(
        "header", element("p", f"dicom2cache · report of a {kind}", class_="eyebrow"),
        element("h1", about.title), element("p", about.lead, class_="lead"),
        element("dl", *cells, class_="figures"),
    )  # fmt: skip


def _sections(about: Contents) -> Iterator[tuple[str, str, Html | None]]:
    yield "contents", "Contents", _contents(about)
    yield "pictures", "Pictures", _pictures(about)
    yield "values", "Values and shapes", _spread(about)
    yield "stacks", "Stacks", _stacks(about)
    yield "flags", "Oddities", _flags(about)
    yield "unstored", "Not stored", _unstored(about)
    yield "sources", "Sources", _sources(about)
    yield "own", "Columns of the user", _own(about)
    yield "split", "Split", _split(about)
    yield "made", "How it was made", _made(about)
    yield "datasheet", "Datasheet", _datasheet(about)


def _contents(about: Contents) -> Html | None:
    facts = about.facts
    if not facts.parts:
        return element("p", "No frame is stored.")
    total = facts.whole.bytes
    parts = table(
        "By modality and kind of object",
        ["Modality", "Kind", "Patients", "Studies", "Series", "Stacks", "Files", "Frames", "Size",
         "Share of size"],
        [
            (
                p.names[0], p.names[1], grouped(p.patients), grouped(p.studies), grouped(p.series),
                grouped(p.stacks), grouped(p.files), grouped(p.frames), size(p.bytes),
                share(p.bytes, total),
            )
            for p in facts.parts[:_MOST]
        ],
        range(2, 9),
    )  # fmt: skip
    values = table(
        "By unit of the stored values; percentiles are medians over the frames",
        ["Modality", "Unit", "Dtype", "Frames", "Size", "p1", "p50", "p99"],
        [
            (
                v.modality, _UNITS.get(v.unit, v.unit), v.dtype, grouped(v.frames), size(v.bytes),
                *(map(number, v.middle) if v.middle else ("–",) * 3),
            )
            for v in facts.values[:_MOST]
        ],
        range(3, 8),
    )  # fmt: skip
    arrays = [_arrays(about.arrays[:_FIRST], "By array of the cache")]
    if rest := about.arrays[_FIRST:_MOST]:
        said = element("summary", counting(len(rest), "more array"))
        arrays.append(element("details", said, _arrays(rest, "More arrays")))
    return joined([parts, values, *arrays, _more(len(about.arrays) - _MOST, "array")])


def _arrays(arrays: tuple[Array, ...], caption: str) -> Html:
    rows = [
        (
            a.name, a.slot, grouped(a.frames), grouped(a.shards), size(a.bytes), a.codec,
            f"{a.plain / a.bytes:.2f}" if a.codec != "none" and a.bytes else "–", a.values,
        )
        for a in arrays
    ]  # fmt: skip
    heads = ["Array", "Slot", "Frames", "Shards", "Size", "Codec", "Ratio", "Values"]
    return table(caption, heads, rows, (2, 3, 4, 6))


def _more(left: int, what: str) -> Html | None:
    return (
        element("p", f"and {counting(left, f'more {what}')}", class_="note") if left > 0 else None
    )


def _pictures(about: Contents) -> Html | None:
    if not about.pictures:
        return None
    said = (
        f"{counting(len(about.pictures), 'stack')} of {grouped(about.stacks_in_all)}, chosen by "
        f"seed {about.seed}, all modalities in turn. Text that is burned into pixels, and faces, "
        "are shown as they are."
    )
    notes = [element("p", note, class_="note") for note in about.left_out]
    figures = [_picture(p) for p in about.pictures]
    return joined([element("p", said), *notes, element("div", *figures, class_="pictures")])


def _picture(picture: Picture) -> Html:
    inside: list[object] = [element("b", picture.title)]
    for line in picture.lines:
        inside += [element("br"), line]
    if picture.flags:
        inside.append(element("br"))
    for flag in picture.flags:
        inside += [element("span", flag, class_="tag"), " "]
    if picture.traces:
        drawing = [element("path", d=d, class_="trace") for d in picture.traces]
        title = element("title", picture.alt)
        shown = element("svg", title, *drawing, viewBox="0 0 288 288", role="img")
    else:
        source = f"data:image/png;base64,{b64encode(picture.png).decode()}"
        shown = element("img", src=source, alt=picture.alt)
    return element("figure", shown, element("figcaption", *inside))


def _spread(about: Contents) -> Html | None:
    parts: list[Html] = []
    for modality, shapes in about.facts.spread:
        if shapes:
            parts.append(element("h3", modality))
            parts.append(element("div", *map(drawn, shapes), class_="charts"))
    if not parts:
        return None
    said = (
        "Values are percentiles of each frame without padding, in the unit that is stored. A "
        "dashed line is the median; what lies far beyond the rest is counted, and not drawn."
    )
    return joined([element("p", said, class_="note"), *parts])


def _stacks(about: Contents) -> Html | None:
    facts = about.facts
    if not facts.stacks:
        return None
    said = (
        "A stack is what can be a volume: frames of one series with one orientation and spacing, "
        "in order. Regular ones have even steps."
    )
    rows = [
        (
            s.modality, grouped(s.stacks), grouped(s.acquisitions), grouped(s.least),
            number(s.median), grouped(s.most), grouped(s.regular), grouped(s.uneven),
            grouped(s.unplaced), grouped(s.single),
        )
        for s in facts.stacks[:_MOST]
    ]  # fmt: skip
    heads = [
        "Modality", "Stacks", "Acquisitions", "Least", "Median", "Most", "Regular", "Not regular",
        "No positions", "One frame",
    ]  # fmt: skip
    parts = [
        element("p", said, class_="note"),
        table("By modality; least, median and most frames", heads, rows, range(1, 10)),
    ]
    if facts.stack_flags:
        flags = [(flag, grouped(n), _meaning(flag)) for flag, n in facts.stack_flags]
        parts.append(table("Flags", ["Flag", "Stacks", "What it means"], flags, (1,)))
    return joined(parts)


def _meaning(flag: str) -> Html:
    said = meanings().get(flag, "a flag of a later version")
    return element("span", said[:1].upper() + said[1:], class_="why")


def _flags(about: Contents) -> Html | None:
    parts: list[Html | None] = []
    if about.errata:
        rows = [(name, grouped(n), what) for name, n, what in about.errata]
        parts.append(
            table(
                "What may be wrong, since an earlier version made it; a new build mends it",
                ["Erratum", "Rows", "What"],
                rows,
                (1,),
            )
        )
    if about.facts.flags:
        flags = [(f, grouped(n), grouped(m), _meaning(f)) for f, n, m in about.facts.flags]
        said = "Met in headers and pixels, and dealt with as the standard, or else this list, says"
        heads = ["Flag", "Frames", "Files", "What it means"]
        parts.append(table(said, heads, flags, (1, 2)))
    return joined(parts) if parts else None


def _unstored(about: Contents) -> Html | None:
    if not about.unstored:
        return element("p", "Every file, and every frame, is stored.")
    rows = []
    for group in about.unstored[:_MOST]:
        what = element(
            "span", OUTCOMES.get(group.outcome, group.outcome),
            class_="tag bad" if group.outcome == "failed" else "tag",
        )  # fmt: skip
        stage = element("span", f" at {group.stage}", class_="note") if group.stage else None
        more: list[object] = []
        if group.suffixes:
            named = ", ".join(f"{name} {grouped(n)}" for name, n in group.suffixes)
            more.append(element("div", named, class_="note"))
        if about.identifying:
            frame = "" if group.frame is None else f", frame {group.frame}"
            said = "" if group.said == group.reason else f": {group.said}"
            more.append(element("div", f"e.g. {group.path}{frame}{said}", class_="note"))
        if group.remedy:
            more.append(element("div", f"→ {group.remedy}", class_="note"))
        why = element("div", element("b", group.reason), *more, class_="why")
        rows.append((joined([what, stage]), grouped(group.rows), grouped(group.files), why))
    heads = ["Outcome", "Rows", "Files", "Reason, and what to do"]
    note = None
    if not (about.identifying or about.is_plan):
        note = element(
            "p", "Values and paths in reasons are left out (…); `dicom2cache failures` has them.",
            class_="note",
        )  # fmt: skip
    whole = table(
        "By reason, failures first; a row is a file, or a frame of one", heads, rows, (1, 2)
    )
    return joined([note, whole, _more(len(about.unstored) - _MOST, "reason")])


def _sources(about: Contents) -> Html | None:
    words, whole = about.facts.words, about.facts.whole
    if not whole.frames:
        return None
    said = {"true": "yes", "false": "no", None: "not said"}
    syntaxes = [(syntax_name(uid), n) for uid, n in words["transfer_syntax"]]
    parts: list[Html] = [
        _counts("Transfer syntax of the files", syntaxes, "Frames", whole.frames),
    ]
    if not about.is_plan:
        parts.append(_counts("Decoded by", words["codec"], "Frames", whole.frames))
    parts.append(_counts("Sizes (rows × columns)", about.facts.sizes, "Frames", whole.frames))
    for name, title in (("lossy", "Compressed with loss"), ("burned_in", "Text burned in")):
        rows = [(said.get(value, value), n) for value, n in words[name]]
        parts.append(_counts(f"{title}, says the file", rows, "Frames", whole.frames))
    parts.append(_counts("Body part", words["body_part"], "Frames", whole.frames))
    parts.append(_counts("Sex", words["sex"], "Patients", whole.patients))
    if about.identifying:
        parts.append(_counts("Manufacturer", words["manufacturer"], "Frames", whole.frames))
        parts.append(_counts("Model", words["model"], "Frames", whole.frames))
    return element("div", *parts, class_="pairs")


def _counts(title: str, rows: object, of: str, whole: int) -> Html:
    assert isinstance(rows, list | tuple)
    said = [("not said" if n is None else n, grouped(c), share(c, whole)) for n, c in rows]
    return table(None, [title, of, "Share"], said, (1,))


def syntax_name(uid: str | None) -> str | None:
    """The name of a transfer syntax; its UID, if the standard has none."""
    from pydicom.uid import UID_dictionary

    return UID_dictionary[uid][0] if uid in UID_dictionary else uid


def _own(about: Contents) -> Html | None:
    if not about.own:
        return None
    rows = [(o.name, o.element, o.kind, grouped(o.values), o.consent) for o in about.own]
    heads = ["Column", "Element", "Type", "Frames that have a value", "Consent"]
    said = "Elements that the recipe names; consent: they may tell who a person is (PS3.15 E.1)"
    return table(said, heads, rows, (3,))


def _split(about: Contents) -> Html | None:
    if not about.sides:
        return None
    rows = [
        (
            s.names[0], grouped(s.patients), grouped(s.studies), grouped(s.series),
            grouped(s.stacks), grouped(s.frames), share(s.frames, about.facts.whole.frames),
        )
        for s in about.sides
    ]  # fmt: skip
    heads = ["Side", "Patients", "Studies", "Series", "Stacks", "Frames", "Share of frames"]
    return table("Of the split that was given", heads, rows, range(1, 6))


def _made(about: Contents) -> Html:
    versions = element(
        "div", table(None, ["Program or library", "Version"], about.versions, ()), class_="pairs"
    )
    recipe = element("pre", lines(about.recipe), tabindex="0", aria_label="Recipe")
    said = [element("p", line) for line in about.made]
    return joined([*said, element("h3", "Recipe"), recipe, element("h3", "Versions"), versions])


def _datasheet(about: Contents) -> Html:
    said = (
        "For a paper's appendix or a data set's page: what the cache knows is filled in, the rest "
        "is in brackets. One click selects all of it."
    )
    sheet = element(
        "pre", lines(datasheet(about)), class_="sheet", tabindex="0", aria_label="Datasheet"
    )
    return joined([element("p", said, class_="note"), sheet])


def _foot(about: Contents) -> Html:
    if about.identifying:
        said = "This page has paths and free text of headers: it is as private as the cache."
    else:
        said = (
            "No paths, UIDs or free text of headers are on this page, and no patients' hashes. "
            "Pictures are pixels of patients all the same."
            if about.pictures
            else "No paths, UIDs or free text of headers are on this page, and no patients' hashes."
        )
    return element("footer", text(said))
