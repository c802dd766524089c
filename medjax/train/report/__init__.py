"""Pages that a run leaves: plain data in, one self-contained HTML file out."""
