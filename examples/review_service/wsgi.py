"""The service for a server of your own choice: `gunicorn --threads 16 examples.review_service.wsgi`."""

from __future__ import annotations

from examples.review_service import journal
from examples.review_service.app import create_app
from examples.review_service.settings import Settings

journal.to_stderr()
application = create_app(Settings.from_env())
