"""Read a source tree, run nothing of it, and find what breaks DataLoader workers."""
