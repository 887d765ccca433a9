"""The dangerous things, one module for each: atomic writes, checkpoint files, YAML, images."""
