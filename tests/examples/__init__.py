"""The review service, its provider and the demonstration."""
