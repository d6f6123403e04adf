"""Where the service and its provider are, unless told otherwise."""

SERVICE_PORT = 8000
PROVIDER_PORT = 9000
