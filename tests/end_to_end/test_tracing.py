"""One trace from a request to the worker, as a collector receives it; and nothing at all where none is named."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from consilience.tracing.switch import find_problem, is_enabled
from tests.service.servers import npy, rows
from tests.serving import Serve, serve, until

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
KINDS = Span.SpanKind


@dataclass
class Collector:
    """An OTLP/HTTP receiver, and the spans that it got, each with the name of its service."""

    url: str
    spans: list[tuple[str, Span]] = field(default_factory=list)

    def find(self, name: str, trace: str = TRACE) -> list[tuple[str, Span]]:
        """The spans of a name in a trace."""
        return [(service, span) for service, span in self.spans if span.name == name and span.trace_id.hex() == trace]

    def wait(self, name: str, trace: str = TRACE) -> tuple[str, Span]:
        """The first of them, as soon as it is there."""
        until(lambda: bool(self.find(name, trace)))
        return self.find(name, trace)[0]


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {each.key: each.value.string_value for each in resource.resource.attributes}
                collector.spans += [
                    (names["service.name"], span) for scope in resource.scope_spans for span in scope.spans
                ]
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def traced() -> Iterator[tuple[Serve, Collector]]:
    with collecting() as collector:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        with serve(env=env) as service:
            yield service, collector


def attributes(span: Span) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def post_job(service: Serve, traceparent: str, **options: object) -> dict[str, Any]:
    body = {"a": {"vectors": rows(64).tolist()}, "b": {"vectors": rows(64).tolist()}, "metrics": ["cka"], **options}
    answer = httpx2.post(f"{service.url}/v1/alignments", json=body, headers={"traceparent": traceparent}, timeout=30)
    assert answer.status_code == 202, answer.text
    return answer.json()


def test_a_job_is_one_trace_from_the_callers_span_to_the_workers(traced: tuple[Serve, Collector]) -> None:
    service, collector = traced

    job = post_job(service, f"00-{TRACE}-{CALLER}-01")

    where, request = collector.wait("POST /v1/alignments")
    assert (where, request.kind, request.parent_span_id.hex()) == ("consilience-api", KINDS.SPAN_KIND_SERVER, CALLER)
    where, sent = collector.wait("send align")
    assert (where, sent.kind) == ("consilience-api", KINDS.SPAN_KIND_PRODUCER)
    where, run = collector.wait("process align")
    assert (where, run.kind) == ("consilience-worker", KINDS.SPAN_KIND_CONSUMER)
    assert sent.parent_span_id == run.parent_span_id == request.span_id
    assert attributes(run)["consilience.job"] == attributes(sent)["consilience.job"] == job["id"]
    assert attributes(run)["consilience.delivery"] == 1
    assert run.end_time_unix_nano > run.start_time_unix_nano > request.start_time_unix_nano
    assert run.events, "the stages"
    assert run.status.code == Status.STATUS_CODE_UNSET


def test_the_log_has_the_trace_of_a_request(traced: tuple[Serve, Collector]) -> None:
    service, _ = traced

    httpx2.get(f"{service.url}/v1/info", headers={"traceparent": f"00-{'ab' * 16}-{CALLER}-01"})

    log = service.data_dir.parent / "serve.log"
    until(lambda: f'"trace_id": "{"ab" * 16}"' in log.read_text())


def test_a_canceled_run_ends_its_span_too(traced: tuple[Serve, Collector]) -> None:
    service, collector = traced
    with httpx2.Client(base_url=service.url, timeout=30) as client:
        big = client.post("/v1/embeddings", content=npy(rows(2000, 32)), headers={"content-type": "application/x-npy"})
        side = {"embedding": big.json()["id"]}
        job = post_job(
            service,
            f"00-{'cd' * 16}-{CALLER}-01",
            a=side,
            b=side,
            metrics=["rsa"],
            null={"method": "permutation", "permutations": 20_000},
        )
        until(lambda: client.get(job["links"]["self"]).json()["status"] == "running")
        client.post(job["links"]["cancel"])

    _, run = collector.wait("process align", "cd" * 16)

    assert (run.status.code, run.status.message) == (Status.STATUS_CODE_ERROR, "cancel")


def test_what_users_say_of_their_data_and_what_is_asked_all_the_time_is_in_no_span(
    traced: tuple[Serve, Collector],
) -> None:
    service, collector = traced
    for path in ("/livez", "/readyz", "/metrics"):
        httpx2.get(service.url + path)
    httpx2.post(
        f"{service.url}/v1/embeddings?name=secret-plan",
        content=npy(np.ones((8, 2), np.float32)),
        headers={"content-type": "application/x-npy", "traceparent": f"00-{'ef' * 16}-{CALLER}-01"},
    )

    collector.wait("POST /v1/embeddings", "ef" * 16)

    assert "secret" not in str(collector.spans)
    assert not {span.name for _, span in collector.spans} & {"GET /livez", "GET /readyz", "GET /metrics"}


def test_a_collector_that_is_away_costs_no_job(tmp_path_factory: pytest.TempPathFactory) -> None:
    data_dir = tmp_path_factory.mktemp("away") / "data"
    with serve(env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, data_dir=data_dir) as service:
        job = post_job(service, f"00-{TRACE}-{CALLER}-01")
        until(lambda: httpx2.get(service.url + job["links"]["self"]).json()["status"] == "succeeded")


@pytest.mark.parametrize("module", ["service.__main__", "workers.__main__, workers.worker, workers.tasks"])
def test_without_a_collector_nothing_is_imported(module: str) -> None:
    # redis-py loads opentelemetry.sdk.metrics by itself where that is installed.
    names = ("consilience.tracing.export", "opentelemetry.exporter", "opentelemetry.sdk.trace")
    code = f"import sys, {module}; print([each for each in sys.modules if each.startswith({names})])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.strip() == "[]"


COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_EXPORTER": "otlp"}, False),
        (COLLECTOR, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({**COLLECTOR, "OTEL_SDK_DISABLED": "True"}, False),
        ({**COLLECTOR, "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_standard_variables_decide(environ: dict[str, str], wanted: bool) -> None:
    assert is_enabled(environ) is wanted


def test_what_prevents_spans_is_said() -> None:
    assert find_problem(COLLECTOR) is None
    assert "http/protobuf" in (find_problem({**COLLECTOR, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}) or "")
    assert find_problem({**COLLECTOR, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}) is None
