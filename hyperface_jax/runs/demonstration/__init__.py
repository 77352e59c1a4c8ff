"""The demonstration: the whole method in a world of toy faces, from a gallery to leakage.

A closed loop is a folder with the result of each stage. A study with other sizes and arms is built from
the same parts. Only :mod:`hyperface_jax.runs`, :mod:`hyperface_jax.cli` and benchmarks import this
folder.
"""
