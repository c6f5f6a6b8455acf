"""Text for a terminal or a log: names in it cannot move the cursor, nor forge a line."""

from __future__ import annotations

import unicodedata
import warnings

from dicom2cache.errors import counting as counting


def one_line(text: str) -> str:
    """The text with escapes for what is no visible character: control characters, line ends,
    marks that turn the direction of writing, lone surrogates."""
    if text.isprintable():
        return text
    shown = (
        c if c == " " or unicodedata.category(c) not in _UNSEEN else _escape(ord(c)) for c in text
    )
    return "".join(shown)


def lines(text: str) -> str:
    """A message of several lines, each as `one_line`; those after the first are set in, so that
    none looks like a message of its own."""
    first, *rest = text.split("\n")
    return "\n".join([one_line(first), *(f"  {one_line(line.lstrip())}" for line in rest)])


_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def plain_warnings() -> None:
    """Warnings as a line each; none of NumPy's: what matters of these is a flag or a failure.

    Nor of joblib's, which says of a run that is interrupted that results were not used.
    """
    warnings.simplefilter("ignore", RuntimeWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"joblib\.")
    warnings.formatwarning = lambda message, *_, **__: f"{one_line(str(message))}\n"
