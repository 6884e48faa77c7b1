"""Images on disk to batches in memory."""
