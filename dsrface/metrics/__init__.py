"""Image quality, verification, identification, and how sure one may be of each."""
