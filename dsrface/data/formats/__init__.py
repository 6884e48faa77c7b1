"""Readers of the files that face data sets come in."""
