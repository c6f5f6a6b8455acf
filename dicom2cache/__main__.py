"""`python -m dicom2cache`: the command line."""

from __future__ import annotations

from dicom2cache.cli.start import main

if __name__ == "__main__":
    main()
