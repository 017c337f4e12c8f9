"""Parts of `benchmarks.gpu_all`."""
