"""Facts about this machine, atomic files and locks."""
