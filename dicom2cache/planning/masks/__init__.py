"""Masks joined to the images that they lie on, pure and columnar."""
