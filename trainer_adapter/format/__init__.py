"""What FORMAT.md says, read from files that are not trusted."""
