"""Super-resolve very-low-resolution faces, fine-tune a recogniser on them, and keep the workers busy."""

__version__ = "0.1.0"
