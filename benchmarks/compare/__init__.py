"""Compare networks on the same data, with the same CPU time and the same metrics."""
