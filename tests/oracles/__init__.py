"""Programs that are not pydicom, as judges. Run: python -m tests.oracles [DIR]."""
