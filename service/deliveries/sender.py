"""Sender of due webhooks, with several deliveries at a time and retries."""

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

#: Seconds between attempts: after twelve attempts in three days, a message has failed.
PAUSES_S = (5, 30, 120, 600, 1800, 7200, 18_000, 36_000, 50_400, 64_800, 79_200)
#: Maximum random extension of a pause, so that messages do not arrive at a recovered receiver all at once.
JITTER = 0.1
#: Seconds that deliveries in progress have to finish when the process stops.
DRAIN_TIMEOUT_S = 5.0
#: Status of a receiver that wants no further attempts.
GONE = 410


@dataclass(frozen=True)
class DeliveryTiming:
    """Concurrency, timeout and pauses of deliveries."""

    timeout_s: float = 15.0
    slots: int = 16
    """Maximum number of messages that are sent at the same time."""
    slots_of_host: int = 4
    """Maximum number of these to one host, so that one slow host does not delay others."""
    interval_s: float = 0.5
    """Seconds between two polls of the outbox."""
    pauses_s: Sequence[float] = PAUSES_S

    @property
    def lease_s(self) -> float:
        """Seconds after which a claimed message is due again: twice the timeout, because name resolution can take as long."""
        return 2 * self.timeout_s + 1


class Sender:
    """Claims messages from the outbox, sends them and records the outcome."""

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
        """Send until `stopping` is set. Deliveries in progress then have a few seconds; otherwise they are sent again later."""
        while not stopping.wait(self._timing.interval_s):
            self._guarded(self.send_due)
        self.drain(min(self._timing.timeout_s, DRAIN_TIMEOUT_S))

    def drain(self, timeout_s: float) -> None:
        """Wait until no delivery is in progress, for at most `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        while self._under_way.total() and time.monotonic() < deadline:
            time.sleep(0.02)

    def send_due(self) -> int:
        """Start the delivery of due messages while there are free slots, and return their number."""
        begun = 0
        while (message := self._claim()) is not None:
            begun += 1
            # Daemon threads: one that hangs in name resolution must not keep the process alive.
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
        """Send a message once. Return the error, if any, and whether it is final."""
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
        except Exception as error:  # noqa: BLE001 - after any protocol error of a receiver, the message is sent again
            return f"{type(error).__name__}: {error}", False
        return (None if 200 <= status < 300 else f"the receiver responded with status {status}"), status == GONE

    def _report_failure(self, message: WebhookMessage, error: str, *, is_final: bool) -> None:
        pauses = self._timing.pauses_s
        again = None if is_final or message.attempt > len(pauses) else pauses[message.attempt - 1]
        if again is not None:
            again *= 1 + random.uniform(0, JITTER)  # noqa: S311 - spreads load, not for security
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
        except ConsilienceError as error:  # a claimed message is due again after its lease
            self._log.warning("deliveries_wait", detail=error.detail, cause=error.value)
        except Exception:  # noqa: BLE001 - the loop must survive any error; the log has the traceback
            self._log.exception("deliveries_fault")
