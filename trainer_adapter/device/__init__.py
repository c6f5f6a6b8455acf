"""What is done to a batch where it lies."""
