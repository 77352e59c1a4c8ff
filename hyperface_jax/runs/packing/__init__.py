"""The ``pack`` stage: its settings, files, job, loop and results, and packings that are codes.

Only :mod:`hyperface_jax.runs`, :mod:`hyperface_jax.cli` and benchmarks import this folder.
"""
