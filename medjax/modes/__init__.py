"""One file per mode; the only readers of the config."""
