"""Errors that the apps show as one line, without a traceback."""


class UserError(ValueError):
    """What was asked for cannot be done; the message says why, and what to do instead.

    Status 2.
    """


class FailedRun(RuntimeError):
    """A run that went wrong in a way that was looked out for; the message says what it left. Status 1."""
