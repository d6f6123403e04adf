"""Programs that show the library at work. Run them from the root of a checkout."""
