"""Webhooks: where the end of a job is told, and what has become of that."""

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, HttpUrl

from consilience.contract.base import Document, Request, Timestamp


def _without_password(url: HttpUrl) -> HttpUrl:
    if url.username or url.password:
        raise ValueError("a webhook's URL holds no user name and no password: its receiver checks the signature")
    return url


class WebhookChoice(Request):
    """Receiver of a notification when a job ends: one POST request, signed as standardwebhooks.com specifies."""

    url: Annotated[HttpUrl, AfterValidator(_without_password)] = Field(
        description="Address of the receiver, without user name and password."
    )


class WebhookStatus(StrEnum):
    """State of a webhook's delivery.

    `waiting`: the job has not ended. `pending`: the job has ended and the message is sent repeatedly until the receiver
    accepts it. `delivered`: the receiver accepted the message. `failed`: delivery was given up; `last_error` has the
    error.
    """

    WAITING = "waiting"
    """The job has not ended."""
    PENDING = "pending"
    """The job has ended; the message is sent, again and again, until it is accepted."""
    DELIVERED = "delivered"
    """The receiver accepted it."""
    FAILED = "failed"
    """It was given up; `last_error` says why."""


class Webhook(Document):
    """Webhook of a job and the state of its delivery."""

    id: str
    """Value of the header `webhook-id`, which is the same in every attempt."""
    url: str
    status: WebhookStatus
    attempts: int
    """Number of delivery attempts."""
    last_error: str | None = None
    """Error of the last failed attempt."""
    next_attempt_at: Timestamp | None = None
    """Time of the next attempt."""
    delivered_at: Timestamp | None = None
    """Time at which the receiver accepted the message."""
    failed_at: Timestamp | None = None
    """Time at which delivery was given up."""
