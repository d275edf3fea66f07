"""Creation of job records and their delivery to the workers. Runs in threads."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from consilience.contract.jobs import Job, JobKind, Plan, QueueName
from consilience.contract.pointers import at_pointer
from consilience.contract.webhooks import WebhookChoice
from consilience.errors import InvalidRequest, ServiceError
from consilience.planning.alignments import CostLimits
from consilience.stores.jobs import AddedJob
from service.settings import ServiceSettings
from service.stores import Stores
from service.tracing import find_parent, start_send_span


@dataclass(frozen=True)
class Dispatch:
    """Adds jobs and sends them to the workers."""

    settings: ServiceSettings
    stores: Stores

    @property
    def limits(self) -> CostLimits:
        """Maximum cost of one job."""
        settings = self.settings
        return CostLimits(settings.job_flops_limit, settings.job_memory_bytes, settings.job_timeout_s)

    def add(
        self,
        kind: JobKind,
        request: dict[str, Any],
        plan: Plan,
        embeddings: Sequence[str],
        key: str | None,
        *,
        queue: QueueName = "align",
        references: Sequence[str] = (),
        datasets: Sequence[str] = (),
        maps: Sequence[str] = (),
    ) -> AddedJob:
        """Store a job, or return the existing job of a known idempotency key. Call `deliver` next.

        Parameters
        ----------
        kind : str
            Kind of job.
        request, plan : dict, Plan
            Request in JSON with all defaults filled in, and its cost estimate.
        embeddings : sequence of str
            Ids of the sets that the job reads.
        key : str, optional
            Idempotency key of the request.
        queue : str
            Queue that the job is sent to.
        references, datasets, maps : sequence of str
            Ids of the reference sets, stored datasets and maps that the job reads.
        """
        idempotency = (key, _fingerprint(request)) if key else None
        return self.stores.jobs.add(
            kind,
            request,
            plan,
            embeddings,
            idempotency,
            queue=queue,
            traceparent=find_parent(),
            references=references,
            datasets=datasets,
            maps=maps,
        )

    def deliver(self, added: AddedJob, queue: QueueName = "align") -> Job:
        """Send a new job to the workers. If Redis is unavailable, the reconciler sends it later."""
        job, delivery, created = added
        if created:
            structlog.get_logger().info("job_queued", job=job.id, delivery=delivery)
            with start_send_span(job.id, queue) as span:
                try:
                    self.stores.queue.push(job.id, delivery, self.settings.job_timeout_s, queue)
                except ServiceError as error:
                    # The job's record is enough: the reconciler finds undelivered jobs and delivers them.
                    structlog.get_logger().warning("delivery_postponed", job=job.id, detail=error.detail)
                    span.add_event("delivery_postponed")
        return job

    def check_webhook(self, webhook: WebhookChoice | None) -> None:
        """Raise InvalidRequest if a webhook could never be sent."""
        if webhook is None:
            return
        if self.settings.webhook_secret is None:
            raise InvalidRequest(
                "This service does not send webhooks, because it has no secret to sign them.",
                value=webhook.url,
                hint="Leave out `webhook` and poll the job, or ask the operator to set CONSILIENCE_WEBHOOK_SECRET.",
                pointer="/webhook",
            )
        with at_pointer("/webhook/url"):
            self.settings.destinations.check_host(webhook.url.host or "")


def _fingerprint(request: dict[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).hexdigest()
