"""Mends a committed cache: from its second copies, and from the sources."""
