"""`dsrface doctor -- COMMAND`: examine the DataLoaders of a command, in its own processes, with no edit."""
