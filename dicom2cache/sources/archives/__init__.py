"""Archives: which files are some, and where their members lie."""
