"""From samples to batches of bytes on the device: decode, resize, cache, workers, order."""
