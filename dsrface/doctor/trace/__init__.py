"""Follow the pickler through a data set and name what it meets."""
