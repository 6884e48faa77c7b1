"""Real workers against this process: what is loaded by both, how it is compared, and what it shows."""
