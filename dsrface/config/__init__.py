"""What each command can be told, and where the values come from; free of torch."""
