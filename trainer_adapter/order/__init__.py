"""Which frame comes when, pure."""
