"""A page about a cache: what is in it, what is not and why, and how it looks."""
