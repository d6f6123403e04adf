"""What `protect` promises for a client of botocore, over real sockets."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore import UNSIGNED
from botocore.exceptions import ChecksumError, ClientError, ConnectionClosedError
from botocore.httpchecksum import AwsChunkedWrapper
from botocore.stub import Stubber

from resilience import CircuitBreaker, CircuitOpen, Fallback, Hedge, Pipeline, Priority, Retry, TimedOut, context
from resilience.http import client_policy, transient
from resilience.integrations._botocore_meaning import OperationExchange
from resilience.integrations.botocore import protect
from tests.integrations.aws_server import AwsServer, client_of

KEY = {"id": {"S": "1"}}


@pytest.fixture
def aws() -> Iterator[AwsServer]:
    server = AwsServer()
    yield server
    server.end()


@pytest.fixture
def opened() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def make(aws: AwsServer, opened: contextlib.ExitStack) -> Any:
    def made(service: str, policy: Any = None, *, repeat: Any = (), **options: Any) -> Any:
        client = client_of(service, aws.url, **options)
        opened.callback(client.close)
        return protect(client, retry() if policy is None else policy, repeat=repeat)

    return made


def retry(**options: Any) -> Retry:
    return Retry(on=transient, backoff=0, **options)


@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
def test_only_the_policy_retries(aws: AwsServer, make: Any, mode: str) -> None:
    """Three attempts are three requests whatever botocore's own retries were set to; each has its number, and AWS's."""
    aws.script = [(503, "ServiceUnavailable"), "reset", (500, "InternalError"), (503, "SlowDown")]
    with pytest.raises(ClientError) as caught:
        make("s3", mode=mode).list_buckets()
    assert caught.value.response["Error"]["Code"] == "InternalError"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert aws.attempts() == ["1", "2", "3"]
    said = [headers["amz-sdk-request"] for _, headers, _ in aws.requests]
    assert [f"attempt={number}" in text for number, text in enumerate(said, 1)] == [True] * 3
    assert len({headers["amz-sdk-invocation-id"] for _, headers, _ in aws.requests}) == 1


def test_retries_what_passes(aws: AwsServer, make: Any) -> None:
    """A read that is refused twice succeeds, and each attempt is signed anew and without our headers."""
    aws.script = [(503, "SlowDown"), "reset"]
    assert make("s3").list_buckets()["ResponseMetadata"]["HTTPStatusCode"] == 200
    signed = [headers["authorization"] for _, headers, _ in aws.requests]
    assert len(signed) == 3
    assert not any("x-attempt" in text for text in signed)


@pytest.mark.parametrize(
    "code", ["ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"]
)
def test_throttled_is_always_repeated(aws: AwsServer, make: Any, code: str) -> None:
    """What was throttled has not been carried out, so any operation is tried again, whatever the status."""
    aws.script = [(400, code)] * 2
    make("dynamodb").put_item(TableName="table", Item=KEY)
    assert aws.attempts() == ["1", "2", "3"]


def test_other_errors_are_not_repeated(aws: AwsServer, make: Any) -> None:
    """A condition that fails and a name that is wrong will be so the next time."""
    for code in ("ConditionalCheckFailedException", "ValidationException", "LimitExceededException"):
        aws.script = [(400, code)]
        with pytest.raises(ClientError, match=code):
            make("dynamodb").get_item(TableName="table", Key=KEY)
    assert len(aws.requests) == 3


@pytest.mark.parametrize("step", ["reset", (500, "InternalServerError"), (503, "ServiceUnavailable")])
def test_what_may_have_been_done_is_sent_once(aws: AwsServer, make: Any, step: Any) -> None:
    """A POST of DynamoDB that failed within the server returns at once, and is repeated where it is named."""
    aws.script = [step]
    with pytest.raises((ClientError, ConnectionClosedError)) as caught:
        make("dynamodb").put_item(TableName="table", Item=KEY)
    if step == "reset":
        assert "PutItem may have been carried out" in caught.value.__notes__[0]
    assert aws.attempts() == ["1"]
    aws.script = [step]
    make("dynamodb", repeat={"Put*"}).put_item(TableName="table", Item=KEY)
    assert aws.attempts() == ["1", "1", "2"]


def test_once_means_without_a_wait(aws: AwsServer, make: Any) -> None:
    """A Retry-After of what may not be repeated is not waited for."""
    aws.script = [(503, "ServiceUnavailable", {"Retry-After": "30"})]
    begun = time.monotonic()
    with pytest.raises(ClientError):
        make("sqs").send_message(QueueUrl=aws.url, MessageBody="x")
    assert time.monotonic() - begun < 5
    assert len(aws.requests) == 1


def test_token_makes_it_repeatable(aws: AwsServer, make: Any) -> None:
    """An operation with an idempotency token is repeated, and every attempt sends the same token."""
    aws.script = [(500, "InternalServerError")]
    make("dynamodb").transact_write_items(TransactItems=[{"Put": {"TableName": "table", "Item": KEY}}])
    first, second = (body for _, _, body in aws.requests)
    assert first == second
    assert b"ClientRequestToken" in first


def test_retry_after_beyond_the_deadline(aws: AwsServer, make: Any) -> None:
    """A server that asks for more time than is left is not waited for."""
    aws.script = [(503, "SlowDown", {"Retry-After": "120"})]
    begun = time.monotonic()
    with context.deadline(30), pytest.raises(ClientError, match="SlowDown"):
        make("s3", retry(max_retry_after=1000)).list_buckets()
    assert time.monotonic() - begun < 5
    assert len(aws.requests) == 1


def test_file_is_rewound_to_where_it_stood(aws: AwsServer, make: Any) -> None:
    """A file is sent again from where it stood; a body of bytes as it was."""
    aws.script = [(503, "SlowDown")]
    file = io.BytesIO(b"..file")
    file.seek(2)
    client = make("s3")
    client.upload_part(Bucket="b", Key="k", UploadId="u", PartNumber=1, Body=file)
    aws.script = [(503, "SlowDown")]
    client.put_object(Bucket="b", Key="k", Body=b"bytes")
    bodies = [body for _, _, body in aws.requests]
    assert bodies[0] == bodies[1]
    assert b"file" in bodies[0]
    assert bodies[2] == bodies[3]
    assert b"bytes" in bodies[2]


def test_spent_stream_is_not_sent_again(aws: AwsServer, opened: contextlib.ExitStack) -> None:
    """A stream that cannot be rewound is sent once, and the error says why."""

    class Pipe(io.BytesIO):
        def seek(self, *_: Any) -> int:
            raise io.UnsupportedOperation("seek")

        def tell(self) -> int:
            raise io.UnsupportedOperation("tell")

    made = client_of("s3", aws.url, signature_version=UNSIGNED)
    opened.callback(made.close)
    client = protect(made, retry())
    aws.script = ["reset"]
    with pytest.raises(ConnectionClosedError) as caught:
        client.put_object(Bucket="b", Key="k", Body=Pipe(b"once"), ContentLength=4, ChecksumCRC32="fVBjrg==")
    assert "its body is spent" in caught.value.__notes__[0]
    assert len(aws.requests) == 1


def test_deadline_and_priority_travel(aws: AwsServer, make: Any) -> None:
    """The service hears how much time is left and how much the work matters."""
    with context.deadline(20), context.priority(Priority.SHEDDABLE):
        make("s3").list_buckets()
    _, headers, _ = aws.requests[0]
    assert 15_000 < int(headers["x-deadline-ms"]) <= 20_000
    assert headers["x-priority"] == "sheddable"


def test_passed_deadline_sends_nothing(aws: AwsServer, make: Any) -> None:
    """With no time left nothing is sent."""
    client = make("s3")
    with context.deadline(0.001):
        while context.remaining():
            pass
        with pytest.raises(TimedOut):
            client.list_buckets()
    assert aws.requests == []


def test_breaker_sees_errors(aws: AwsServer, make: Any) -> None:
    """Errors of the service open the circuit, those of a write too, and a rejection comes out as ours."""
    aws.script = [(500, "InternalServerError")] * 2
    client = make("dynamodb", Pipeline(retry(), CircuitBreaker(2, on=transient)))
    for _ in range(2):
        with pytest.raises(ClientError):
            client.put_item(TableName="table", Item=KEY)
    with pytest.raises(CircuitOpen):
        client.get_item(TableName="table", Key=KEY)
    assert len(aws.requests) == 2


def test_fallback_is_the_answer(aws: AwsServer, make: Any) -> None:
    """What a fallback returns is what the operation returns."""
    aws.script = [(503, "SlowDown")]
    client = make("s3", Fallback(value={"Buckets": []}, on=transient))
    assert client.list_buckets() == {"Buckets": []}


def test_paginators_and_waiters_go_through(aws: AwsServer, make: Any) -> None:
    """Each page and each question of a waiter is a request under the policy."""
    aws.script = [b'{"TableNames": ["one"], "LastEvaluatedTableName": "one"}', (400, "ThrottlingException")]
    aws.script += [b'{"TableNames": ["two"]}']
    pages = list(make("dynamodb").get_paginator("list_tables").paginate())
    assert [page["TableNames"] for page in pages] == [["one"], ["two"]]
    assert aws.attempts() == ["1", "1", "2"]
    aws.script = ["reset"]
    make("s3").get_waiter("bucket_exists").wait(Bucket="b")
    assert aws.attempts()[3:] == ["1", "2"]


def test_presigned_and_stubbed_are_untouched(aws: AwsServer, make: Any) -> None:
    """A presigned address has nothing of ours in it, and a stub answers before anything is sent."""
    client = make("s3")
    assert "attempt" not in client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"}).lower()
    with Stubber(client) as stub:
        stub.add_response("list_buckets", {"Buckets": []})
        assert client.list_buckets() == {"Buckets": []}
    assert aws.requests == []


def test_checksum_is_still_checked(aws: AwsServer, make: Any) -> None:
    """Without botocore's retries an answer of DynamoDB is still held against its checksum."""
    aws.script = [(200, None, {"x-amz-crc32": "1"})]
    with pytest.raises(ChecksumError):
        make("dynamodb").get_item(TableName="table", Key=KEY)


def test_default_policy_is_by_origin(aws: AwsServer, make: Any) -> None:
    """The default keeps one policy for each origin."""
    hosts = client_policy()
    make("s3", hosts).list_buckets()
    assert [key for key, _ in hosts.items()] == [aws.url]
    assert protect(client_of("s3", aws.url)).list_buckets()["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_mistakes_are_said(aws: AwsServer) -> None:
    """Protecting twice, a hedge, a name in place of names and what is no client are errors."""
    client = client_of("s3", aws.url)
    assert protect(client) is client
    with pytest.raises(RuntimeError, match="protected already"):
        protect(client)
    with pytest.raises(TypeError, match="Hedge"):
        protect(client_of("s3", aws.url), Hedge(0.1))
    with pytest.raises(TypeError, match="collection of operations"):
        protect(client_of("s3", aws.url), repeat="GetItem")
    with pytest.raises(TypeError, match="client of botocore"):
        protect(object())


@pytest.mark.parametrize(("start", "again"), [(0, True), (2, False)])
def test_stream_with_its_checksum_behind(start: int, again: bool) -> None:
    """What botocore wraps to send a checksum behind it goes back to the start of the file only, so nowhere else."""
    file = io.BytesIO(b"..file")
    file.seek(start)
    wrapped = AwsChunkedWrapper(file)
    model = client_of("s3", "http://127.0.0.1:1").meta.service_model.operation_model("PutObject")
    exchange = OperationExchange(model, {"body": wrapped, "url": "http://127.0.0.1:1"}, ())
    first = wrapped.read()
    assert exchange.rewind() is again
    assert (wrapped.read() == first) is again
