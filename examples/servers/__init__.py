"""One short program for each kind of server: so many requests a minute from each address, and 429 for the rest."""
