"""The tests on a newer Python, with the newest of everything that is installed."""
