"""Prefixes of errors."""

import pytest

from consilience.contract.pointers import with_prefix
from consilience.errors import Unreachable


def test_an_unreachable_service_is_not_reported_as_an_error_of_the_file() -> None:
    with pytest.raises(Unreachable, match=r"^The service did not respond\.$"), with_prefix("File a.npy"):
        raise Unreachable("The service did not respond.")
