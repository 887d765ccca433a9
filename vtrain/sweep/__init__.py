"""A hyper-parameter search: what is tried, who works on what, and what came out."""
