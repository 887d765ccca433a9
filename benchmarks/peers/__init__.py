"""The comparison with other programs: one process for each of them, in turns."""
