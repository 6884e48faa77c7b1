"""The packed cache of DSR outputs and HR faces: format, writer, reader. See `docs/cache-format.md`."""
