"""Benchmarks: run them as modules from the root of the repository, e.g. ``python -m benchmarks.cpg_loss``."""
