"""The exceptions that the command line turns into an exit code, without a traceback."""


class InputError(ValueError):
    """Input that cannot be used: the message names the file or field and how to mend it."""


class PeerError(RuntimeError):
    """Another process of the job stopped on an error that it has reported itself."""
