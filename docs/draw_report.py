"""Draw docs/report.png: the demo's report in light and dark, by a headless Chromium.

Run: make demo, then .venv/bin/python -m docs.draw_report. Other machines draw other pixels.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from tests.browser.chromium import Browser, install

_WIDTH, _HEIGHT = 1180, 1150
_SCALE = 0.62


def main() -> None:
    """Write the picture: the begin of the page in light, its pictures in dark, side by side."""
    why = install()
    if why:
        sys.exit(why)
    browser, shots = Browser(), []
    with TemporaryDirectory() as folder:
        for dark, part in ((False, ".page"), (True, "#pictures")):
            browser.open(Path("demo/report.html"), dark, _WIDTH, _HEIGHT)
            browser.value("document.documentElement.style.scrollBehavior = 'auto'")
            browser.value(f"document.querySelector('{part}').scrollIntoView()")
            shot = Path(folder) / f"{part[1:]}.png"
            browser.screenshot(shot)
            with Image.open(shot) as image:
                shots.append(image.convert("RGB"))
    browser.close()
    size = round(_WIDTH * _SCALE), round(_HEIGHT * _SCALE)
    sheet = Image.new("RGB", (2 * size[0], size[1]))
    for k, shot_of in enumerate(shots):
        sheet.paste(shot_of.resize(size, Image.Resampling.LANCZOS), (k * size[0], 0))
    colours = sheet.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    colours.save("docs/report.png", optimize=True)


if __name__ == "__main__":
    main()
