"""Builds against their peers and the codecs alone."""
