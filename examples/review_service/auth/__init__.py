"""Who is asking: tokens, the keys that check them, and the provider that issues both."""
