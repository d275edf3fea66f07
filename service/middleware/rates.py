"""How many requests a minute each key may make: a bucket of tokens a key, in this process's memory.

Several API processes count for themselves, so N of them let N times as many through; in return nothing waits for
Redis, and nothing changes while it is away.
"""

import math
import time
from dataclasses import dataclass

from consilience.errors import TooManyRequests

WINDOW_S = 60


@dataclass
class TokenBucket:
    """The tokens that are left, and when they were counted."""

    tokens: float
    at: float


@dataclass(frozen=True)
class RateLimitState:
    """How much of a limit is left (draft-ietf-httpapi-ratelimit-headers)."""

    limit: int
    left: int
    full_in_s: int
    """Seconds until all of it is there again."""

    def headers(self) -> dict[str, str]:
        """The header fields of a response."""
        return {
            "RateLimit-Policy": f'"requests";q={self.limit};w={WINDOW_S}',
            "RateLimit": f'"requests";r={self.left};t={self.full_in_s}',
        }


class RateLimiter:
    """The buckets of all keys that asked; there are no more than keys. For one thread: the event loop's."""

    def __init__(self, limit: int) -> None:
        self._limit, self._refill = limit, limit / WINDOW_S
        self._buckets: dict[str, TokenBucket] = {}

    def take(self, key_id: str, now: float | None = None) -> RateLimitState:
        """Count one request; `Standing.left` is what the key has after it.

        Raises
        ------
        RateExceeded
            It has none left; the error has the state.
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
    """The key's requests of this minute are used up."""

    def __init__(self, limit: int, after_s: float, state: RateLimitState) -> None:
        super().__init__(
            f"This API key may make {limit} requests a minute.",
            limit=limit,
            after_s=after_s,
            hint="Ask again after the seconds of Retry-After; CONSILIENCE_RATE_LIMIT_PER_MINUTE is the limit.",
        )
        self.state = state
