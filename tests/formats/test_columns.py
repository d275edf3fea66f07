"""Ids and groups: one string per row, from any source."""

import json
from pathlib import Path

import numpy as np
import pytest

from consilience.errors import InvalidRequest
from consilience.formats.columns import check_length, load_column, parse_column, read_column
from consilience.formats.files import from_vectors, open_path

ROWS = [[1.0], [2.0], [3.0], [4.0]]


def written(tmp_path: Path, content: bytes | str) -> Path:
    path = tmp_path / "column"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_integers_become_their_digits() -> None:
    assert parse_column([7, "7", -1, 2**70, "ü ß", 0], "ids") == ("7", "7", "-1", str(2**70), "ü ß", "0")


@pytest.mark.parametrize("values", [("a", "b"), np.array(["a", "b"]), ["a", "b"]])
def test_lists_tuples_and_arrays_are_accepted(values: object) -> None:
    assert parse_column(values, "ids") == ("a", "b")
    assert parse_column(np.arange(3), "ids") == ("0", "1", "2")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.0, "not an integer"),
        (float("nan"), "not an integer"),
        (True, "a boolean"),
        (None, "null"),
        (["x"], "a list"),
        ({"x": 1}, "an object"),
        (b"x", "bytes"),
        ("", "0 characters"),
        ("x" * 257, "257 characters"),
        (10**1000, "257 characters"),
        ("a\nb", "not printable"),
        ("\x00", "not printable"),
        ("\ud800", "not printable"),
        ("\u202e", "not printable"),
    ],
)
def test_a_bad_entry_is_refused_by_its_index(value: object, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        parse_column(["a", "b", value], "ids")
    assert caught.value.pointer == "/ids/2"
    assert "Entry 2 of `ids`" in caught.value.detail
    json.dumps(caught.value.value).encode()


@pytest.mark.parametrize("values", [None, "abc", {"a": 1}, {"a"}, 7, np.array(7), np.str_("abc")])
def test_a_value_that_is_not_a_list_is_refused(values: object) -> None:
    with pytest.raises(InvalidRequest, match="`groups` is not a list") as caught:
        parse_column(values, "groups")
    assert caught.value.pointer == "/groups"


@pytest.mark.parametrize(("length", "n"), [(3, 4), (5, 4), (0, 4)])
def test_a_column_of_another_length_is_refused_with_both_lengths(length: int, n: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_length(["x"] * length, n, "ids_a")
    assert (caught.value.value, caught.value.limit) == (f"{length} entries, {n} rows", n)
    assert caught.value.pointer == "/ids_a"


@pytest.mark.parametrize(
    "content",
    ["", "{", "[1", "['x']", "[" * 100_000, b"[\xff]", '["\\x"]', "[" + "9" * 5000 + "]", "[1] [2]"],
)
def test_a_file_that_is_not_json_is_refused(tmp_path: Path, content: bytes | str) -> None:
    with pytest.raises(InvalidRequest, match="`ids` is not valid JSON") as caught:
        load_column(written(tmp_path, content), "ids")
    assert caught.value.pointer == "/ids"


@pytest.mark.parametrize(
    "content",
    [
        '["a", "b c", 3]',
        ' \n["a","b c","3"]\n',
        "a\nb c\n3\n",
        "a\nb c\n3",
        "a\r\nb c\r\n3\r\n",
        b"\xef\xbb\xbfa\nb c\n3",
    ],
)
def test_a_local_file_is_a_json_list_or_has_one_entry_per_line(tmp_path: Path, content: bytes | str) -> None:
    assert read_column(written(tmp_path, content), "ids") == ("a", "b c", "3")


@pytest.mark.parametrize("content", ["a\n\nb", "", "a\n\n", b"\xff\xfe", "a\tb"])
def test_a_local_file_with_an_empty_line_or_no_text_is_refused(tmp_path: Path, content: bytes | str) -> None:
    with pytest.raises(InvalidRequest):
        read_column(written(tmp_path, content), "ids")


def test_a_json_set_may_contain_its_columns(tmp_path: Path) -> None:
    document = {"vectors": ROWS, "ids": [4, 3, 2, "1"], "groups": None}
    with open_path(written(tmp_path, json.dumps(document))) as file:
        assert (file.ids, file.groups) == (("4", "3", "2", "1"), None)
    layered = {"layers": {"x": ROWS}, "groups": ["a", "a", "b", "b"]}
    with open_path(written(tmp_path, json.dumps(layered))) as file:
        assert (file.ids, file.groups) == (None, ("a", "a", "b", "b"))


def test_columns_both_inside_and_beside_a_set_are_refused() -> None:
    file = from_vectors(ROWS, ids=[1, 2, 3, 4])
    assert file.with_columns(None, ("x",) * 4).groups == ("x",) * 4
    with pytest.raises(InvalidRequest, match="inside the file and beside it") as caught:
        file.with_columns(("1", "2", "3", "4"), None, ("ids_b", "groups_b"))
    assert caught.value.pointer == "/ids_b"


def test_inline_columns_of_another_length_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="3 entries"):
        from_vectors(ROWS, groups=["x"] * 3)


def test_an_integer_too_long_for_python_to_print_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="257 characters"):
        parse_column([-(10**5000)], "ids")
