"""Training: one loop, two tasks, checkpoints, run folders, events."""
