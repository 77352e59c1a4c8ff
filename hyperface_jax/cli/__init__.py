"""The ``hyperface`` command: it parses arguments, calls :mod:`hyperface_jax.runs` and prints.

This is the top layer of the package: no other folder imports it.
"""
