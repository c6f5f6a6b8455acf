"""Contenders of `make bench-convert`: programs that turn DICOM files into something to train from."""
