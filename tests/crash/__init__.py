"""Runs that are killed, disks that fail, power cuts, Ctrl-C: `python -m tests.crash`."""
