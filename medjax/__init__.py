"""medjax: 3-D medical imaging in JAX, in pure functions. Importing it loads nothing heavy."""

__version__ = "0.1.0"
