"""Channels that can be spared, and what goes with them."""
