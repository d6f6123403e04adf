"""A local stand-in for Auth0: the same shapes on the wire, and a switch for every way in which a provider fails.

It is a program of its own, on a port of its own, because that is what a provider is: what the review service believes
about it has to hold over real sockets. Tokens are minted with joserfc and checked by the service with PyJWT, so that no
mistake of one library is hidden by the same mistake on the other side. Nothing here uses `resilience`.

    python -m examples.auth0_standin --port 9000     prints {"provider": "http://127.0.0.1:9000/"} when it is ready

    directory.py   who exists: users, one application, one API     keys.py     signing keys and their rotation
    tokens.py      the claims of both token profiles               grants.py   the three grants of /oauth/token
    bucket.py      the limit of /userinfo                          faults.py   what goes wrong, and how
    routes.py      what Auth0 answers                              control.py  switches, counters, tokens by hand
    app.py         all of it as one WSGI application               server.py   a loopback server around that
"""
