"""Fuzzing: what a hostile file, recipe or cache may provoke is a typed error, and nothing else.

`make fuzz` runs the targets under atheris; tests/fuzz/test_fuzz.py a few inputs of each without it.
"""
