"""Rate limit of requests per API key, by a token bucket in the memory of this process.

Each API process counts on its own, so that N processes allow N times as many requests. In return, no request waits for Redis,
and the limit works without it.
"""

import math
import time
from dataclasses import dataclass

from consilience.errors import TooManyRequests

WINDOW_S = 60


@dataclass
class TokenBucket:
    """Number of tokens at a point in time."""

    tokens: float
    at: float


@dataclass(frozen=True)
class RateLimitState:
    """State of a rate limit (draft-ietf-httpapi-ratelimit-headers)."""

    limit: int
    left: int
    full_in_s: int
    """Seconds until the full limit is available again."""

    def headers(self) -> dict[str, str]:
        """Return the headers of a response."""
        return {
            "RateLimit-Policy": f'"requests";q={self.limit};w={WINDOW_S}',
            "RateLimit": f'"requests";r={self.left};t={self.full_in_s}',
        }


class RateLimiter:
    """Token buckets of all API keys. Only for the thread of the event loop."""

    def __init__(self, limit: int) -> None:
        self._limit, self._refill = limit, limit / WINDOW_S
        self._buckets: dict[str, TokenBucket] = {}

    def take(self, key_id: str, now: float | None = None) -> RateLimitState:
        """Count one request and return the remaining limit of the key.

        Raises
        ------
        RateExceeded
            The limit is used up; the error contains the state.
        """
        now = time.monotonic() if now is None else now
        bucket = self._buckets.setdefault(key_id, TokenBucket(self._limit, now))
        bucket.tokens = min(self._limit, bucket.tokens + (now - bucket.at) * self._refill)
        bucket.at = now
        if bucket.tokens < 1:
            raise RateExceeded(self._limit, (1 - bucket.tokens) / self._refill, self._state(bucket))
        bucket.tokens -= 1
        return self._state(bucket)

    def _state(self, bucket: TokenBucket) -> RateLimitState:
        missing = self._limit - bucket.tokens
        return RateLimitState(self._limit, int(bucket.tokens), math.ceil(missing / self._refill))


class RateExceeded(TooManyRequests):
    """The rate limit of the API key is exceeded."""

    def __init__(self, limit: int, after_s: float, state: RateLimitState) -> None:
        super().__init__(
            f"The API key has exceeded the limit of {limit} requests per minute.",
            limit=limit,
            after_s=after_s,
            hint="Retry after the seconds in the header Retry-After. The operator sets CONSILIENCE_RATE_LIMIT_PER_MINUTE.",
        )
        self.state = state
