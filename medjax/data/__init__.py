"""From folders of files to batches of patches."""
