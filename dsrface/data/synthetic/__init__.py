"""Faces drawn from numbers, for a first run without any photo."""
