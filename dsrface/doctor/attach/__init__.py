"""`dsrface doctor --attach PID`: what the DataLoaders of a running job wait for; the job goes on unharmed."""
