"""The ``synthesize`` stage: it draws face images of packed embeddings.

Only :mod:`hyperface_jax.runs`, :mod:`hyperface_jax.cli` and benchmarks import this folder.
"""
