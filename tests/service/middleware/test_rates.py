import pytest

from service.middleware.rates import RateExceeded, RateLimiter


def test_a_key_can_use_its_limit_at_once_and_then_waits() -> None:
    rates = RateLimiter(60)
    states = [rates.take("key", now=0.0) for _ in range(60)]

    with pytest.raises(RateExceeded) as caught:
        rates.take("key", now=0.25)

    assert [state.left for state in states] == list(range(59, -1, -1))
    assert caught.value.after_s == pytest.approx(0.75)
    assert rates.take("key", now=1.0).left == 0


def test_tokens_are_refilled_up_to_the_limit() -> None:
    rates = RateLimiter(120)
    for _ in range(120):
        rates.take("key", now=0.0)

    assert rates.take("key", now=30.0).left == 59
    assert rates.take("key", now=3600.0).left == 119


def test_each_key_has_its_own_bucket() -> None:
    rates = RateLimiter(1)
    rates.take("one", now=0.0)

    assert rates.take("other", now=0.0).left == 0


def test_the_rate_limit_headers_follow_the_draft() -> None:
    rates = RateLimiter(6000)

    assert rates.take("key", now=0.0).headers() == {
        "RateLimit-Policy": '"requests";q=6000;w=60',
        "RateLimit": '"requests";r=5999;t=1',
    }
