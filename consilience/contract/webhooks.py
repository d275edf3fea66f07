"""Webhooks: notifications when jobs end, and the state of their delivery."""

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, HttpUrl

from consilience.contract.base import Document, Request, Timestamp


def _without_password(url: HttpUrl) -> HttpUrl:
    if url.username or url.password:
        raise ValueError(
            "the URL of a webhook must not contain a user name or a password; the receiver can verify the signature instead"
        )
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
    """The job has ended, and the message is sent until the receiver accepts it."""
    DELIVERED = "delivered"
    """The receiver accepted the message."""
    FAILED = "failed"
    """Delivery was given up; `last_error` has the error."""


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
