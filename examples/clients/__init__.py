"""One short program for each client, against whatever server it is told."""
