"""botocore through a server that fails twice: what the library does below an ordinary client."""

from __future__ import annotations

import sys

import botocore.session

from resilience.integrations.botocore import protect

KEYS = {"aws_access_key_id": "id", "aws_secret_access_key": "secret"}  # of no account: the server is a local one


def main(url: str) -> None:
    """Ask a flaky server for an object and say what came."""
    client = botocore.session.get_session().create_client("s3", region_name="us-east-1", endpoint_url=url, **KEYS)
    protect(client)
    response = client.get_object(Bucket="bucket", Key="key")
    print(f"botocore: {response['ResponseMetadata']['HTTPStatusCode']} with {response['Body'].read()!r}")
    client.close()


if __name__ == "__main__":
    main(sys.argv[1])
