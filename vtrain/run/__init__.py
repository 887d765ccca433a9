"""The composition root: each module builds the parts of one command, in order, and starts them."""
