"""The HTTP server: waitress, with problems where it would say things in plain text.

Requests are read by one thread and handed whole to sixteen others, so a client that sends slowly, or never ends, costs
a connection and no thread.
"""

from __future__ import annotations

import socket
from typing import Any

from flask import Flask
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server
from waitress.task import ErrorTask

from examples.review_service.controllers.forms import LARGEST_BODY
from examples.review_service.problems import of_status

HOST = "127.0.0.1"
THREADS = 16


class _ProblemTask(ErrorTask):
    """The answer to what is no request at all."""

    def execute(self) -> None:
        task: Any = self
        problem = of_status(task.request.error.code)
        body = problem.body()
        task.status = problem.status_line()
        task.response_headers.extend(problem.all_headers().items())
        task.content_length = len(body)
        task.set_close_on_finish()
        task.write(body)


class _Channel(HTTPChannel):
    error_task_class = _ProblemTask


def bind(port: int) -> socket.socket:
    """Take a port, before anything else is begun.

    Raises:
        OSError: it is taken, or there is none of that number.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise OSError(f"cannot listen on {HOST}:{port} ({error})") from None
    return listener


def make_server(app: Flask, listener: socket.socket) -> BaseWSGIServer:
    """A server; `.run()` serves until SystemExit or KeyboardInterrupt."""
    options: dict[str, Any] = {
        "threads": THREADS,
        "connection_limit": 2_000,
        "channel_timeout": 30,
        "max_request_body_size": 16 * LARGEST_BODY,
        "clear_untrusted_proxy_headers": False,
        "asyncore_use_poll": True,
        "ident": None,
    }
    server = create_server(app, sockets=[listener], **options)
    if not isinstance(server, BaseWSGIServer):
        raise TypeError("one socket makes one server")
    server.channel_class = _Channel
    return server
