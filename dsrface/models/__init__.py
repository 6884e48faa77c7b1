"""Networks, losses and weight files; no data loading, no training loop."""
