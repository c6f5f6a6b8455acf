"""Checks a committed cache: what is wrong, where, and what to do."""
