"""What a model looked at and what it learnt; takes a model and images, never a config."""
