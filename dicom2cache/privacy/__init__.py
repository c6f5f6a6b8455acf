"""What of patients, and of where files lie, may come to a cache."""
