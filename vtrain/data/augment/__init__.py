"""Augmentation of whole batches and the mixing of their images: what is drawn and done."""
