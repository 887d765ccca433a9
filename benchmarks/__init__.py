"""Measuring commands, started by `scripts/bench NAME`, and what they found."""
