"""One limit over four processes, while its server is killed and restarted: `python -m examples.shared_limit`."""
