"""Frames taken out of a cache: a new numbering, what stays out, and what is purged."""
