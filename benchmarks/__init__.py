"""Benchmarks: each module writes one JSON under ``benchmarks/results/<device>/``."""

import os

# NumPy's BLAS threads fight those of torch and XLA over small matrices; set before NumPy loads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
