"""Shards to frames."""
