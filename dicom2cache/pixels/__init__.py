"""Arithmetic on one frame, pure."""
