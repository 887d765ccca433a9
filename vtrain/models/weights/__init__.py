"""Read and translate the weights of other programs."""
