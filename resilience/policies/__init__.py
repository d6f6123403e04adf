"""The policies, one public one per file: a pure core, a lock, a clock and events."""
