"""What `enrol`, `identify` and `verify` share: from photos to embeddings, galleries and sheets."""
