"""Before a build decodes: the decoders of the syntaxes that it met are proved, once for each
installation and kind of processor."""

from __future__ import annotations

from collections.abc import Collection

from dicom2cache.errors import Unfinished
from dicom2cache.running.proof import remembered
from dicom2cache.running.proof.samples import of_syntaxes
from dicom2cache.syntaxes import SYNTAXES

REMEDY = (
    "install imagecodecs and simplejpeg anew, from the wheels of PyPI (`python -m pip install "
    "--force-reinstall --no-deps --only-binary :all: imagecodecs simplejpeg`); if that does not "
    "help, report it with what `dicom2cache doctor --json` prints"
)
"""for a decoder that is wrong"""


def check(met: Collection[str]) -> None:
    """Raises Unfinished if a decoder of the transfer syntaxes `met` is wrong on this machine.

    No file is to blame for it: so nothing is converted, rather than some files refused.
    """
    wanted = set(met) & set(SYNTAXES) - remembered.remembered()
    if not wanted:
        return
    from dicom2cache.running.proof import apart

    wrong = [proof for proof in apart.proved(of_syntaxes(wanted)) if proof.wrong]
    remembered.remember(wanted - {proof.syntax for proof in wrong})
    if wrong:
        said = "; ".join(f"{one.syntax}, sample {one.sample}: {one.wrong}" for one in wrong)
        raise Unfinished(
            f"decoders on this machine do not make the pixels that they must ({said}); nothing was "
            f"converted. For a right cache {REMEDY}"
        )
