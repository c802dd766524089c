"""Programs as graphs of other runtimes."""
