"""Write a trained model for other programs, and prove that what was written is the model."""
