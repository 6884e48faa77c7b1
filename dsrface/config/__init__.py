"""What each command can be given, and where the values come from; free of torch."""
