"""From a checkpoint to an answer: a loaded model, its logits, and what they are worth."""
