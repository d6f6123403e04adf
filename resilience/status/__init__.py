"""A live page of every named policy, to mount in any WSGI or ASGI application.

The page is three files and one stream of JSON; it asks nothing of another host, and runs under the strictest content
policy there is. What it shows is gathered while somebody looks, by one listener, and at no other time: there is no
thread, and a page that nobody opens costs nothing.
"""

from __future__ import annotations

from resilience.status._asgi import asgi_app
from resilience.status._board import snapshot
from resilience.status._wsgi import wsgi_app

__all__ = ["asgi_app", "snapshot", "wsgi_app"]
