"""The ``hyperface`` command, one thin module a verb."""
