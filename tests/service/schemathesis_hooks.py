"""What Schemathesis must be told of our media types."""

import schemathesis

# JSON lines are text to it: that each line is an object is for the service to see.
schemathesis.serializer.alias(["application/jsonl", "application/x-ndjson"], "text/plain")
