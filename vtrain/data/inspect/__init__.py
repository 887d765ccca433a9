"""Look at a dataset: scan every image, fingerprint it, draw a grid."""
