"""Webhooks: where the end of a job is told, and what has become of that."""

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, HttpUrl

from consilience.contract.base import Document, Request, Timestamp


def _without_password(url: HttpUrl) -> HttpUrl:
    if url.username or url.password:
        raise ValueError("a webhook's URL holds no user name and no password: its receiver checks the signature")
    return url


class WebhookChoice(Request):
    """Where the end of the job is told: one POST, signed as standardwebhooks.com says."""

    url: Annotated[HttpUrl, AfterValidator(_without_password)]


class WebhookStatus(StrEnum):
    """Where a webhook stands. Each state is one sentence."""

    WAITING = "waiting"
    """The job has not ended."""
    PENDING = "pending"
    """The job has ended; the message is sent, again and again, until it is accepted."""
    DELIVERED = "delivered"
    """The receiver accepted it."""
    FAILED = "failed"
    """It was given up; `last_error` says why."""


class Webhook(Document):
    """A job's webhook and how its delivery goes."""

    id: str
    """`webhook-id` of the message, the same at every attempt."""
    url: str
    status: WebhookStatus
    attempts: int
    """How often it was sent."""
    last_error: str | None = None
    """Why the last attempt that failed did."""
    next_attempt_at: Timestamp | None = None
    delivered_at: Timestamp | None = None
    gave_up_at: Timestamp | None = None
