"""Sources of images, their decoding, loading and augmentation."""
