"""Training: batches made on the fly, losses, and the loop."""
