"""``slices``: one command for all that SLICES does, and for looking at what it made.

Each command is a file here that adds its own parser; nothing heavy is imported before it is needed.
"""
