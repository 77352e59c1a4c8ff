"""The ``hyperface`` command: it parses words, calls :mod:`hyperface_jax.runs` and prints.

Nothing imports this folder.
"""
