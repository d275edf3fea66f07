"""Sends the webhooks that are due, several at a time, and tries again what was not accepted."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpcore2
import structlog

from consilience import __version__
from consilience.errors import ConsilienceError
from consilience.stores.webhooks import Outbox, WebhookMessage
from service.deliveries.http import AddressRefused, Destinations, post, sign

#: Seconds from one attempt to the next: twelve attempts in three days, then the message is given up.
PAUSES_S = (5, 30, 120, 600, 1800, 7200, 18_000, 36_000, 50_400, 64_800, 79_200)
#: Each pause is up to so much longer, so that a receiver which comes back is not met by all at once.
JITTER = 0.1
#: What is under way when the process stops has so long.
DRAIN_TIMEOUT_S = 5.0
#: A receiver that answers so wants no more of it.
GONE = 410


@dataclass(frozen=True)
class DeliveryTiming:
    """How much is sent at once and how long an attempt may take."""

    timeout_s: float = 15.0
    slots: int = 16
    """Messages that are being sent at the same time."""
    slots_of_host: int = 4
    """Of these to one host: one that hangs holds up nobody else."""
    interval_s: float = 0.5
    """How often the outbox is looked at."""
    pauses_s: Sequence[float] = PAUSES_S

    @property
    def lease_s(self) -> float:
        """A claimed message is due again after this: an attempt's time, and as much for looking up a name."""
        return 2 * self.timeout_s + 1


class Sender:
    """Takes messages out of the outbox, posts them, and says how it went."""

    def __init__(
        self, outbox: Outbox, keys: Sequence[bytes], destinations: Destinations, timing: DeliveryTiming | None = None
    ) -> None:
        self._outbox, self._keys, self._destinations = outbox, keys, destinations
        self._timing = timing or DeliveryTiming()
        self._ssl_context = httpcore2.default_ssl_context()
        self._under_way: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._log = structlog.get_logger()

    def run(self, stopping: threading.Event) -> None:
        """Send until told to stop; what is under way then has a few seconds to end, or is sent again by the next."""
        while not stopping.wait(self._timing.interval_s):
            self._guarded(self.send_due)
        self.drain(min(self._timing.timeout_s, DRAIN_TIMEOUT_S))

    def drain(self, timeout_s: float) -> None:
        """Wait until nothing is under way, at most so long."""
        deadline = time.monotonic() + timeout_s
        while self._under_way.total() and time.monotonic() < deadline:
            time.sleep(0.02)

    def send_due(self) -> int:
        """Begin to send all that is due and has room; how many."""
        begun = 0
        while (message := self._claim()) is not None:
            begun += 1
            # Threads that do not keep the process: one that hangs in a look-up must not either.
            threading.Thread(target=self._guarded, args=(self._handle, message), daemon=True).start()
        return begun

    def _claim(self) -> WebhookMessage | None:
        with self._lock:
            if self._under_way.total() >= self._timing.slots:
                return None
            full = [host for host, count in self._under_way.items() if count >= self._timing.slots_of_host]
        message = self._outbox.claim(self._timing.lease_s, excluded_hosts=full)
        if message:
            with self._lock:
                self._under_way[message.host] += 1
        return message

    def _handle(self, message: WebhookMessage) -> None:
        try:
            error, is_final = self._attempt(message)
            if error is None:
                self._outbox.delivered(message.message_id)
                self._log.info("webhook_delivered", message=message.message_id, attempt=message.attempt)
            else:
                self._report_failure(message, error, is_final=is_final)
        finally:
            with self._lock:
                self._under_way -= Counter([message.host])

    def _attempt(self, message: WebhookMessage) -> tuple[str | None, bool]:
        """What went wrong, and whether another attempt is pointless."""
        body = json.dumps(message.body, separators=(",", ":"), ensure_ascii=False).encode()
        headers = {
            "content-type": "application/json",
            "user-agent": f"consilience/{__version__}",
            **sign(self._keys, message.message_id, int(time.time()), body),
        }
        try:
            status = post(
                message.url,
                body,
                headers,
                destinations=self._destinations,
                timeout_s=self._timing.timeout_s,
                ssl_context=self._ssl_context,
            )
        except AddressRefused as refusal:
            return refusal.detail, False
        except Exception as error:  # noqa: BLE001 - whatever a receiver makes of the protocol, the message is tried again
            return f"{type(error).__name__}: {error}", False
        return (None if 200 <= status < 300 else f"the receiver answered {status}"), status == GONE

    def _report_failure(self, message: WebhookMessage, error: str, *, is_final: bool) -> None:
        pauses = self._timing.pauses_s
        again = None if is_final or message.attempt > len(pauses) else pauses[message.attempt - 1]
        if again is not None:
            again *= 1 + random.uniform(0, JITTER)  # noqa: S311 - spreads load, guards nothing
        self._outbox.failed(message, error, again)
        self._log.warning(
            "webhook_failed",
            message=message.message_id,
            attempt=message.attempt,
            error=error,
            next_in_s=again and round(again, 1),
        )

    def _guarded(self, act: Callable[..., object], *args: object) -> None:
        try:
            act(*args)
        except ConsilienceError as error:  # what was claimed is due again after its lease
            self._log.warning("deliveries_wait", detail=error.detail, cause=error.value)
        except Exception:  # noqa: BLE001 - the loop must outlive any fault; the log has the trace
            self._log.exception("deliveries_fault")
