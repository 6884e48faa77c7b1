"""The first look at the data set, without workers: its members, its items, and what these leave behind."""
