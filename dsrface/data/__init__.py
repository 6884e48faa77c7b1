"""Pictures on disk to batches in memory."""
