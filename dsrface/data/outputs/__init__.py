"""What `dsrface precompute` writes, whichever format it has: its inputs, opening and checking it."""
