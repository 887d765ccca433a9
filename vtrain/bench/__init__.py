"""Measuring: statistics, what a machine can do, what a step of training needs. Knows no config."""
