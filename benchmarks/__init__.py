"""Benchmarks: each module writes one JSON under ``benchmarks/results/<device>/``."""
