"""Contenders of `make bench-convert`: what makes training data of DICOM files."""
