"""From a planned request of any kind to a job row and a message to the workers. Runs in threads."""

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
    """Adds jobs and hands them to the workers."""

    settings: ServiceSettings
    stores: Stores

    @property
    def limits(self) -> CostLimits:
        """What one job may cost."""
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
        """The committed job: the known one under a known idempotency key. `deliver` it next.

        Parameters
        ----------
        kind : str
            What it does.
        request, plan : dict, Plan
            The request in JSON with every default filled in, and what it will cost.
        embeddings : sequence of str
            The sets that it reads.
        key : str, optional
            The caller's idempotency key.
        queue : str
            Which workers take it.
        references, datasets, maps : sequence of str
            The reference sets, stored datasets and maps that it reads.
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
        """Tell the workers of a new job. Redis being away is no failure."""
        job, delivery, created = added
        if created:
            structlog.get_logger().info("job_queued", job=job.id, delivery=delivery)
            with start_send_span(job.id, queue) as span:
                try:
                    self.stores.queue.push(job.id, delivery, self.settings.job_timeout_s, queue)
                except ServiceError as error:
                    # The job's row is what counts: the reconciler finds that it was not delivered, and delivers it.
                    structlog.get_logger().warning("delivery_postponed", job=job.id, detail=error.detail)
                    span.add_event("delivery_postponed")
        return job

    def check_webhook(self, webhook: WebhookChoice | None) -> None:
        """Refuse a webhook that would never be sent; InvalidRequest says why."""
        if webhook is None:
            return
        if self.settings.webhook_secret is None:
            raise InvalidRequest(
                "This service sends no webhooks: it has no secret to sign them with.",
                value=webhook.url,
                hint="The operator turns them on with CONSILIENCE_WEBHOOK_SECRET; jobs can be polled and watched.",
                pointer="/webhook",
            )
        with at_pointer("/webhook/url"):
            self.settings.destinations.check_host(webhook.url.host or "")


def _fingerprint(request: dict[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).hexdigest()
