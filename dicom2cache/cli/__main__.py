"""`python -m dicom2cache.cli`: the command line."""

from dicom2cache.cli.start import main

if __name__ == "__main__":
    main()
