"""Run the provider: `python -m examples.auth0_standin --port 9000`."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys

from examples.auth0_standin.lifeline import end_with_the_parent, exit_on_sigterm


def main(argv: list[str] | None = None) -> int:
    """Serve until interrupted, terminated or, with `--until-eof`, until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m examples.auth0_standin", description="A local stand-in for Auth0.")
    parser.add_argument("--port", type=int, default=9000, help="port on 127.0.0.1; 0 takes any free one")
    parser.add_argument("--audience", help="the API that tokens are for")
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input ends")
    options = parser.parse_args(argv)
    try:
        from examples.auth0_standin import directory
        from examples.auth0_standin.server import HOST, ProviderServer
    except ModuleNotFoundError as missing:
        print(f"{missing.name} is not installed: pip install '.[demo]'", file=sys.stderr)
        return 2
    try:
        server = ProviderServer(options.port, audience=options.audience or directory.AUDIENCE)
    except (OSError, OverflowError) as error:
        print(f"cannot listen on {HOST}:{options.port}: {error}. Choose another port with --port.", file=sys.stderr)
        return 2
    exit_on_sigterm()
    if options.until_eof:
        end_with_the_parent()
    print(json.dumps({"provider": server.issuer}), flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
