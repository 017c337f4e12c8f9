"""Benchmarks: one command each, results as JSON with hardware and versions."""
