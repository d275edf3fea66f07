"""Signatures, compared with the verification in the docs and the test vector of standardwebhooks.com."""

import base64
import re
import time
from pathlib import Path
from typing import Any

import pytest

from service.deliveries.http import parse_secret, sign

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - published
EXPECTED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_signature_of_the_published_test_vector() -> None:
    headers = sign([parse_secret(SECRET)], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": EXPECTED,
    }


def test_each_key_adds_a_signature() -> None:
    new = parse_secret("whsec_" + base64.b64encode(b"n" * 32).decode())
    both = sign([new, parse_secret(SECRET)], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    first, second = both["webhook-signature"].split(" ")
    assert (first != EXPECTED, second) == (True, EXPECTED)


@pytest.mark.parametrize(
    "text", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_" + "A" * 400]
)
def test_an_invalid_secret_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="24 to 64") as caught:
        parse_secret(text)
    assert not text or text not in str(caught.value).replace("whsec_`", "")


def test_the_verification_in_the_docs_accepts_only_signed_messages() -> None:
    page = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - our own page
    is_genuine, now = names["is_genuine"], int(time.time())
    other = parse_secret("whsec_" + base64.b64encode(b"n" * 32).decode())
    headers = sign([other, parse_secret(SECRET)], "msg_1", now, b"{}")
    assert is_genuine(SECRET, headers, b"{}")
    assert not is_genuine(SECRET, headers, b"[]")
    assert not is_genuine(SECRET, {**headers, "webhook-id": "msg_2"}, b"{}")
    assert not is_genuine(SECRET, sign([parse_secret(SECRET)], "msg_1", now - 3600, b"{}"), b"{}")
    assert not is_genuine(SECRET, sign([other], "msg_1", now, b"{}"), b"{}")
