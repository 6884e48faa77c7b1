"""Published benchmarks, read in the layout that they are distributed in; the data are the user's."""
