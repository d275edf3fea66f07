"""Reading of vectors in JSON."""

from pathlib import Path

import numpy as np
import orjson
import pytest

from consilience.errors import (
    ConsilienceError,
    InvalidRequest,
    InvalidShape,
    NonFiniteValues,
    TooFewRows,
    TooLarge,
    UnreadableFile,
    UnsupportedDtype,
    UnsupportedFormat,
)
from consilience.formats.files import FormatLimits, from_vectors, open_file, read_layers

ROWS = [[1, 2.5], [3.0, 4], [5, 6], [-7.0, 8e-3]]


def write(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "a.json"
    path.write_bytes(document if isinstance(document, bytes) else orjson.dumps(document))
    return path


def refusal(tmp_path: Path, document: object, kind: type[ConsilienceError]) -> ConsilienceError:
    with (
        pytest.raises(kind) as caught,
        open_file(write(tmp_path, document), "application/json", FormatLimits()) as file,
    ):
        list(file.blocks())
    return caught.value


def test_rows_of_numbers_are_one_layer_of_float32(tmp_path: Path) -> None:
    ((name, values),) = read_layers(write(tmp_path, {"vectors": ROWS}))
    assert name == "0"
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, np.array(ROWS, "f4"))


def test_three_levels_are_a_stack_of_layers(tmp_path: Path) -> None:
    stacked = np.arange(24).reshape(4, 3, 2)
    layers = read_layers(write(tmp_path, {"vectors": stacked.tolist()}))
    assert [name for name, _ in layers] == ["0", "1", "2"]
    np.testing.assert_array_equal(layers[1][1], stacked[:, 1])


def test_layers_may_have_names(tmp_path: Path) -> None:
    layers = read_layers(write(tmp_path, {"layers": {"l10": ROWS, "l9": [[1.0]] * 4}}))
    assert [(name, values.shape) for name, values in layers] == [("l9", (4, 1)), ("l10", (4, 2))]


def test_vectors_in_memory_can_be_opened_as_a_file() -> None:
    file = from_vectors(ROWS)
    ((index, values),) = file.blocks()
    assert index == 0
    np.testing.assert_array_equal(values, np.array(ROWS, "f4"))


@pytest.mark.parametrize(
    ("vectors", "row", "kind"),
    [
        ([[1, 2], [3, 4], [5], [6, 7]], "Row 2", InvalidShape),
        ([[1, 2], [3, 4], [5, 6, 7], [6, 7]], "Row 2", InvalidShape),
        ([[1, 2], 3, [5, 6], [6, 7]], "Row 1", InvalidShape),
        ([[1, 2], None, [5, 6], [6, 7]], "Row 1", InvalidShape),
        ([[1, 2], [3, "4"], [5, 6], [6, 7]], "Row 1", UnsupportedDtype),
        ([[1, 2], [3, None], [5, 6], [6, 7]], "Row 1", UnsupportedDtype),
        ([[1, 2], [3, True], [5, 6], [6, 7]], "Row 1", UnsupportedDtype),
        ([[1, 2], [3, [4]], [5, 6], [6, 7]], "Row 1", UnsupportedDtype),
        ([[[1], [2]], [[1], [2]], [[1], [2]], [[1], [2, 3]]], "Row 1 of /vectors/3", InvalidShape),
        ([[[1], [2]], [[1], [2]], [[1], [2]], [[1]]], "Row 3", InvalidShape),
    ],
)
def test_the_first_bad_row_is_named(tmp_path: Path, vectors: object, row: str, kind: type[ConsilienceError]) -> None:
    error = refusal(tmp_path, {"vectors": vectors}, kind)
    assert error.detail.startswith(row)
    assert str(error.pointer).startswith("/vectors/")


@pytest.mark.parametrize("vectors", [7, "text", None, {}, [], [[]], [[], [], [], []], [1, 2, 3, 4], [[[[1]]]] * 4])
def test_a_value_that_is_not_a_list_of_rows_is_refused(tmp_path: Path, vectors: object) -> None:
    refusal(tmp_path, {"vectors": vectors}, InvalidShape)


def test_fewer_than_four_rows_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, {"vectors": ROWS[:3]}, TooFewRows).limit == 4


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999", ""])
def test_numbers_that_json_does_not_allow_are_refused(tmp_path: Path, text: str) -> None:
    refusal(tmp_path, f'{{"vectors": [[{text}]]}}'.encode() if text else b"{", UnreadableFile)


def test_a_number_beyond_float32_is_refused_by_its_position(tmp_path: Path) -> None:
    error = refusal(tmp_path, {"vectors": [*ROWS, [1e200, 1.0]]}, NonFiniteValues)
    assert error.value == "row 4, column 0 of layer 0: 1e+200"


def test_an_integer_beyond_every_float_is_refused() -> None:
    with pytest.raises(UnsupportedDtype):
        from_vectors([*ROWS, [10**400, 1]])


@pytest.mark.parametrize("document", [{}, [], ROWS, {"vector": ROWS}, {"vectors": ROWS, "names": []}, 5, {"layers": 3}])
def test_another_document_is_refused_by_its_fields(tmp_path: Path, document: object) -> None:
    assert "vectors" in str(refusal(tmp_path, document, InvalidRequest).hint)


def test_a_set_without_layers_is_refused(tmp_path: Path) -> None:
    refusal(tmp_path, {"layers": {}}, UnsupportedFormat)


def test_more_layers_than_the_limit_are_refused(tmp_path: Path) -> None:
    document = {"layers": {str(i): ROWS for i in range(1025)}}
    assert refusal(tmp_path, document, TooLarge).limit == 1024


def test_layers_of_different_numbers_of_rows_are_refused(tmp_path: Path) -> None:
    assert "5 rows" in str(refusal(tmp_path, {"layers": {"a": ROWS, "b": [[1]] * 5}}, InvalidShape).value)


def test_very_deep_nesting_is_refused(tmp_path: Path) -> None:
    refusal(tmp_path, b'{"vectors": ' + b"[" * 100_000, UnreadableFile)


def test_a_document_over_the_inline_limit_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = write(tmp_path, b"[" * 1001)
    with pytest.raises(TooLarge) as caught, open_file(path, "application/json", FormatLimits(inline_bytes=1000)):
        pass
    assert (caught.value.value, caught.value.limit) == ("1001", 1000)
