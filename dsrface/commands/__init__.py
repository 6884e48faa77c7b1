"""One use case a file: (config) -> result; no terminal."""
