"""Export of spans by OpenTelemetry, configured by its environment variables. Imported only if tracing is on."""

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

from consilience import __version__

#: Attribute with the query of a URL, which contains names and metadata of users.
QUERY = "url.query"
HIDDEN = "REDACTED"


class QueryRedactor(SpanProcessor):
    """Redacts the query of a request's URL, which contains names and metadata of sets."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Replace the query."""
        del parent_context
        if span.attributes and QUERY in span.attributes:
            span.set_attribute(QUERY, HIDDEN)

    def on_end(self, span: ReadableSpan) -> None:
        """Do nothing."""


def describe_process(component: str) -> Resource:
    """Return the resource of a process. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override its attributes."""
    own = {"service.name": f"consilience-{component}", "service.version": __version__}
    return Resource.create(own).merge(OTELResourceDetector().detect())


def open_provider(resource: Resource, *, wait_limit_s: float | None = None) -> TracerProvider:
    """Open a provider of spans for a process.

    Parameters
    ----------
    resource : Resource
        Resource of the process.
    wait_limit_s : float, optional
        Timeout of sending a span. If given, each span is sent in this thread when it ends, as needed by a process that
        ends soon or forks. By default another thread sends batches of spans, with the limits of OTEL_BSP_....
    """
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(timeout=wait_limit_s)
    provider.add_span_processor(QueryRedactor())
    provider.add_span_processor(SimpleSpanProcessor(exporter) if wait_limit_s else BatchSpanProcessor(exporter))
    return provider
