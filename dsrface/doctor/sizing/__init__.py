"""How many workers: measured costs, a model of a loader, and the choice."""
