"""MR physics: anatomies, tumours and signals."""
