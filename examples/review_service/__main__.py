"""The command line: `demo` (the default), `serve`, `token`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from examples.review_service.ports import PROVIDER_PORT, SERVICE_PORT

COMMANDS = ("demo", "serve", "token")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0, or 2 where something is missing or taken."""
    given = list(sys.argv[1:] if argv is None else argv)
    if not given or given[0] not in {*COMMANDS, "-h", "--help"}:
        given.insert(0, "demo")
    options = _parser().parse_args(given)
    try:
        return _run(options)
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] == "examples":
            raise
        print(f"error: {missing.name} is not installed: pip install '.[demo]'", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    if options.command == "serve":
        from examples.review_service.serve import serve

        return serve(
            options.port, options.provider_port, until_eof=options.until_eof, protected=not options.without_policies
        )
    if options.command == "token":
        from examples.review_service.token import token

        return token(options.sub, options.scope, options.ttl)
    from examples.review_service.demo import demo

    return demo(options.plot)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.review_service",
        description="A review service that stays up while its provider is down.",
    )
    commands = parser.add_subparsers(dest="command", required=True)

    demo = commands.add_parser("demo", help="an outage, without the policies and with them (the default)")
    demo.add_argument("--plot", type=Path, metavar="FILE", help="where the SVG goes; a new temporary folder by default")

    serve = commands.add_parser("serve", help="run the service until it is stopped")
    serve.add_argument("--port", type=int, default=SERVICE_PORT, help=f"port of the service ({SERVICE_PORT}; 0: any)")
    serve.add_argument(
        "--provider-port", type=int, default=PROVIDER_PORT, help=f"port of the provider ({PROVIDER_PORT}; 0: any)"
    )
    serve.add_argument("--without-policies", action="store_true", help="take every policy out, to see what happens")
    serve.add_argument("--until-eof", action="store_true", help="stop when standard input ends")

    token = commands.add_parser("token", help="print an access token of the stand-in")
    token.add_argument("--sub", required=True, help="whose token, such as 'auth0|alice'")
    token.add_argument("--scope", required=True, help="what it allows, such as 'read:reviews write:reviews'")
    token.add_argument("--ttl", type=int, default=3600, metavar="S", help="seconds that it is good for (3600)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
