"""Photos of people to aligned faces: what `prepare` does; free of torch, for its worker processes."""
