"""Array functions in JAX without parameters."""
