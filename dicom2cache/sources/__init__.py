"""Source files and their bytes."""
