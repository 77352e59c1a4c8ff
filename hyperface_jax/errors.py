"""The one exception that bad input raises, so that the command line can turn it into one line."""


class InputError(ValueError):
    """Input that cannot be used: the message names the file or field and how to mend it."""
