"""Damaged and lying files put through whole builds (`make test-hostile`)."""
