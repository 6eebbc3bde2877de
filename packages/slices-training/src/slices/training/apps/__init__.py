"""The command line: one short, linear app a file."""
