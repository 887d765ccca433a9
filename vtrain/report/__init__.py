"""What a run is worth: figures, intervals, mistakes, calibration, comparison, from its logits."""
