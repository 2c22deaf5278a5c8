"""What goes on around a run: checks before it, records, warnings and progress along it, and what is left on disk."""
