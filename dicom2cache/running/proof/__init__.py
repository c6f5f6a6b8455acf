"""Decoders proved on samples of each transfer syntax."""
