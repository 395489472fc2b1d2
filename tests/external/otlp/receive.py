"""An OTLP/HTTP receiver that reads requests with the definitions of the OpenTelemetry project.

The argument is the port [default: any]. Prints the port, then a line of JSON for each request with spans: {"behaviour", "headers", "resource": attributes, "spans": [...]}.
The first segment of the path is the behaviour: `accept`, `reject` (400), `partial` (rejects one span), `busy` (503), `hang` (never
answers), or `page` (an HTML page, as another kind of server answers). Without one, it accepts.
"""

import http.server
import json
import sys
import threading

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


def value_of(value):
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind else None


def attributes_of(attributes):
    return {one.key: value_of(one.value) for one in attributes}


def link_of(link):
    return {"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex(), "attributes": attributes_of(link.attributes)}


def span_of(span):
    return {
        "name": span.name,
        "kind": Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "attributes": attributes_of(span.attributes),
        "events": [{"name": event.name, "time": event.time_unix_nano} for event in span.events],
        "links": [link_of(link) for link in span.links],
        "failed": span.status.code == Status.STATUS_CODE_ERROR,
        "message": span.status.message,
    }


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        behaviour, _, path = self.path.lstrip("/").removesuffix("v1/traces").partition("/")
        body = self.rfile.read(int(self.headers["content-length"]))
        if path or not self.path.endswith("/v1/traces") or self.headers["content-type"] != "application/x-protobuf":
            return self.answer(404, "text/plain", b"not an export of traces")
        request = ExportTraceServiceRequest()
        try:
            request.ParseFromString(body)
        except DecodeError as error:
            return self.answer(400, "text/plain", str(error).encode())
        for resource in request.resource_spans:
            spans = [span_of(span) for scope in resource.scope_spans for span in scope.spans]
            if spans:
                headers = {name.lower(): value for name, value in self.headers.items()}
                attributes = attributes_of(resource.resource.attributes)
                line = {"behaviour": behaviour, "headers": headers, "resource": attributes, "spans": spans}
                # One write: several threads answer.
                sys.stdout.write(json.dumps(line) + "\n")
                sys.stdout.flush()
        if behaviour == "hang":
            threading.Event().wait()
        elif behaviour == "reject":
            self.answer(400, "text/plain", b"these spans are not welcome")
        elif behaviour == "busy":
            self.answer(503, "text/plain", b"")
        elif behaviour == "page":
            self.answer(200, "text/html", b"<html>It works!</html>")
        else:
            response = ExportTraceServiceResponse()
            if behaviour == "partial":
                response.partial_success.CopyFrom(ExportTracePartialSuccess(rejected_spans=1, error_message="one is too old"))
            self.answer(200, "application/x-protobuf", response.SerializeToString())

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 0), Handler)
server.daemon_threads = True
print(server.server_port, flush=True)
server.serve_forever()
