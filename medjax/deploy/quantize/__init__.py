"""Eight bits: where, at which scale, and the same in JAX as in a graph."""
