"""The guarded process that runs the code under examination, and who guards it."""
