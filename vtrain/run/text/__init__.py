"""Words, tables and pictures for people."""
