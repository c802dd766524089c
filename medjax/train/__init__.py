"""One compiled step, one loop, and what it leaves on disk."""
