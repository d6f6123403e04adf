"""The use cases. Nothing in here knows HTTP or SQL."""
