"""Numbers computed from finished runs: comparisons, ensembles and scores against a reference mask."""
