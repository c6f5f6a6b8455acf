"""Bytes of a cache."""
