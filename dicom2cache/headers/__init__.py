"""A file to a row of FILES."""
