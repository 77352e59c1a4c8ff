"""The ``train`` stage: its settings, job, loop, log, validation and results.

Only :mod:`hyperface_jax.runs`, :mod:`hyperface_jax.cli` and benchmarks import this folder.
"""
