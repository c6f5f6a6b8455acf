"""The report in a real browser: it is whole, quiet, alone, legible in light and dark, and prints.

With SHOTS=folder screenshots are left there, to be looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Browser, install
from tests.support.caches import built, run_here
from tests.support.dicom_files import DATA_STORE, WHEEL

# The least contrast of all texts with what is behind them (WCAG 2, 1.4.3), and where that is.
CONTRAST = """(() => {
  const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .04045 ? v / 12.92
    : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const numbers = s => s.match(/[\\d.]+/g).map(Number);
  const behind = e => { for (; e; e = e.parentElement) { const c = numbers(getComputedStyle(e)
    .backgroundColor); if (c.length < 4 || c[3]) return c.slice(0, 3); }
    return [255, 255, 255]; };
  let worst = [99, ''];
  const walker = document.createTreeWalker(document.querySelector('.page'), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) { const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || e.closest('svg')) continue;
    const [a, b] = [light(numbers(getComputedStyle(e).color).slice(0, 3)), light(behind(e))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < worst[0]) worst = [ratio, e.outerHTML.slice(0, 120)]; }
  return worst; })()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One that was started for this module."""
    why = install()
    assert why is None, why
    found = Browser()
    yield found
    found.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of all of pydicom's files."""
    folder = tmp_path_factory.mktemp("page")
    cache = built(DATA_STORE, WHEEL, folder / "cache", "--jobs", 2, status=1)
    ran = run_here("report", cache, "-o", folder / "report.html", "--identifying")
    assert ran.returncode == 0, ran.stderr
    return folder / "report.html"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_opens_offline(browser: Browser, page: Path, dark: bool, width: int) -> None:
    browser.call("Network.emulateNetworkConditions", offline=True, latency=0,
                 downloadThroughput=0, uploadThroughput=0)  # fmt: skip
    browser.open(page, dark, width, 900)
    if "SHOTS" in os.environ:
        name = f"report-{width}-{'dark' if dark else 'light'}"
        for whole in (False, True):
            shot = Path(os.environ["SHOTS"]) / f"{name}{'-whole' * whole}.png"
            browser.screenshot(shot, whole)
    said = [e for e in browser.events if e.get("method") in (
        "Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown",
    )]  # fmt: skip
    assert not said
    asked = {
        e["params"]["request"]["url"][:5]
        for e in browser.events
        if e.get("method") == "Network.requestWillBeSent"
    }
    assert asked <= {"file:", "data:"}
    assert browser.value("document.compatMode") == "CSS1Compat"
    assert browser.value("document.querySelectorAll('.pictures figure').length") == 24
    assert browser.value("document.querySelectorAll('.pictures svg').length") >= 1  # an ECG
    assert browser.value("document.images.length") >= 20
    assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth > 200)")
    assert browser.value("document.documentElement.scrollWidth") <= width
    ground = browser.value("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(20, 23, 26)" if dark else "rgb(251, 251, 250)")
    least, where = browser.value(CONTRAST)
    assert least >= 4.5, where


def test_the_contents_stay_and_lead_somewhere(browser: Browser, page: Path) -> None:
    browser.open(page, False, 1280, 900)
    browser.value("document.documentElement.style.scrollBehavior = 'auto'")
    browser.value("document.querySelector('nav a[href=\"#datasheet\"]').click()")
    top = browser.value("document.querySelector('#datasheet h2').getBoundingClientRect().top")
    assert -1 < top < 900
    assert 0 <= browser.value("document.querySelector('nav').getBoundingClientRect().top") < 100
    browser.value("getSelection().selectAllChildren(document.querySelector('.sheet'))")
    assert str(browser.value("getSelection().toString()")).startswith("# Datasheet")


def test_it_prints(browser: Browser, page: Path) -> None:
    browser.open(page, True, 1280, 900)
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert len(browser.call("Page.printToPDF")["data"]) > 50_000
    browser.call("Emulation.setEmulatedMedia", media="")
