"""Rows and recipe to a plan, pure and columnar."""
