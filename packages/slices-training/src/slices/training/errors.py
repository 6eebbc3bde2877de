"""The one error that is the user's to mend."""


class UserError(ValueError):
    """What was asked for cannot be done; the message says why, and what to do instead.

    The apps show it as one line, without a traceback.
    """
