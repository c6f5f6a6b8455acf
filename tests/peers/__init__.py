"""What programs for training make of caches; in an environment of its own (make test-peers)."""
