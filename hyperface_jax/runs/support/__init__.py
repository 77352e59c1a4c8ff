"""Code that all stages share: settings, results, the watch and jobs.

Only :mod:`hyperface_jax.runs`, :mod:`hyperface_jax.cli` and benchmarks import this folder.
"""
