"""Scores on numpy masks, in mm and ml."""
