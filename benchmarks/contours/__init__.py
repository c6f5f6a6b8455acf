"""Structures to masks, beside the tools that make masks of structure sets."""
