"""Reading of tables of every kind: columns of lists are layers, `id` and `group` label the rows."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from consilience.errors import (
    InputError,
    InvalidRequest,
    InvalidShape,
    NonFiniteValues,
    TooFewRows,
    TooLarge,
    UnreadableFile,
    UnsupportedDtype,
    UnsupportedFormat,
)
from consilience.formats.files import FormatLimits, OpenFile, load_layers, open_path
from tests.formats.tables.table_files import KINDS, lists, vectors, write

ROWS = np.random.default_rng(0).standard_normal((23, 5)).astype("f4")
NAMES = [f"row {i}" for i in range(len(ROWS))]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def read(folder: Path, data: bytes, limits: FormatLimits | None = None) -> tuple[OpenFile, dict[str, Any]]:
    """The open file, and its layers by name."""
    path = folder / "table.bin"
    path.write_bytes(data)
    with open_path(path, limits) as file:
        return file, dict(load_layers(file))


def test_a_column_of_lists_is_a_layer_of_its_name(tmp_path: Path, kind: str) -> None:
    file, layers = read(tmp_path, write(kind, pa.table({"embedding": vectors(ROWS)})))

    assert [(layer.name, layer.n, layer.dim, layer.dtype) for layer in file.layers] == [("embedding", 23, 5, "F32")]
    np.testing.assert_array_equal(layers["embedding"], ROWS)
    assert (file.ids, file.groups) == (None, None)


@pytest.mark.parametrize("rows", [1, 7, 22])
def test_row_groups_and_batches_of_any_size_give_the_same_rows(tmp_path: Path, kind: str, rows: int) -> None:
    _, layers = read(tmp_path, write(kind, pa.table({"x": vectors(ROWS), "y": lists(ROWS.tolist())}), rows))

    np.testing.assert_array_equal(layers["x"], ROWS)
    np.testing.assert_array_equal(layers["y"], ROWS)


@pytest.mark.parametrize(("dtype", "kept"), [("f2", "F16"), ("f4", "F32"), ("f8", "F32")])
def test_floats_of_three_sizes_are_stored_as_in_other_formats(tmp_path: Path, kind: str, dtype: str, kept: str) -> None:
    array = ROWS.astype(dtype)
    file, layers = read(tmp_path, write(kind, pa.table({"x": vectors(array)})))

    assert file.layers[0].dtype == kept
    np.testing.assert_array_equal(layers["x"], array.astype("f4" if dtype == "f8" else dtype))


@pytest.mark.parametrize("make", [pa.list_, pa.large_list, lambda kind: pa.list_(kind, 5)])
def test_every_kind_of_list_is_read(tmp_path: Path, kind: str, make: Any) -> None:
    _, layers = read(tmp_path, write(kind, pa.table({"x": pa.array(ROWS.tolist(), make(pa.float32()))})))

    np.testing.assert_array_equal(layers["x"], ROWS)


def test_several_columns_of_lists_are_layers_in_natural_order(tmp_path: Path, kind: str) -> None:
    table = pa.table({"layer10": vectors(ROWS), "title": NAMES, "layer2": vectors(ROWS[:, :3].copy()), "n": [1] * 23})
    file, layers = read(tmp_path, write(kind, table, 9))

    assert [layer.name for layer in file.layers] == ["layer2", "layer10"]
    np.testing.assert_array_equal(layers["layer2"], ROWS[:, :3])
    np.testing.assert_array_equal(layers["layer10"], ROWS)


def test_a_file_can_be_read_twice_and_left_in_the_middle(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a").write_bytes(write(kind, pa.table({"x": vectors(ROWS), "y": vectors(ROWS)}), 4))
    with open_path(tmp_path / "a") as file:
        next(file.blocks())
        for _ in range(2):
            np.testing.assert_array_equal(dict(load_layers(file))["y"], ROWS)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array(NAMES), NAMES),
        (pa.array(NAMES, pa.large_string()), NAMES),
        (pa.array(NAMES, pa.string_view()), NAMES),
        (pa.array(NAMES).dictionary_encode(), NAMES),
        (pa.array(range(23), pa.int8()), [str(i) for i in range(23)]),
        (pa.array([2**64 - 1 - i for i in range(23)], pa.uint64()), [str(2**64 - 1 - i) for i in range(23)]),
        (pa.array([-i for i in range(23)]).dictionary_encode(), [str(-i) for i in range(23)]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_strings_and_integers_are_ids(tmp_path: Path, kind: str, values: pa.Array, expected: list[str]) -> None:
    file, _ = read(tmp_path, write(kind, pa.table({"id": values, "x": vectors(ROWS)})))

    assert (file.ids, file.groups) == (tuple(expected), None)


@pytest.mark.parametrize(("ids", "groups"), [("id", "groups"), ("ids", "group")])
def test_labels_are_found_by_their_names(tmp_path: Path, ids: str, groups: str) -> None:
    table = pa.table({groups: [i // 2 for i in range(23)], "x": vectors(ROWS), ids: NAMES})
    file, _ = read(tmp_path, write("parquet", table, 9))

    assert (file.ids, file.groups) == (tuple(NAMES), tuple(str(i // 2) for i in range(23)))


def test_labels_and_rows_of_many_pieces_stay_in_order(tmp_path: Path, kind: str) -> None:
    array = np.random.default_rng(1).standard_normal((30_000, 3)).astype("f2")
    table = pa.table({"id": pa.array(range(30_000)), "x": vectors(array), "y": lists(array.tolist(), pa.float16())})
    file, layers = read(tmp_path, write(kind, table, 20_011))

    assert file.ids == tuple(map(str, range(30_000)))
    np.testing.assert_array_equal(layers["x"], array)
    np.testing.assert_array_equal(layers["y"], array)


@pytest.mark.parametrize("codec", ["snappy", "gzip", "zstd", "lz4", "brotli"])
def test_parquet_of_every_codec_is_read(tmp_path: Path, codec: str) -> None:
    _, layers = read(tmp_path, write("parquet", pa.table({"x": vectors(ROWS)}), compression=codec))

    np.testing.assert_array_equal(layers["x"], ROWS)


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_arrow_is_read(tmp_path: Path, kind: str, codec: str) -> None:
    _, layers = read(tmp_path, write(kind, pa.table({"x": vectors(ROWS)}), 8, compression=codec))

    np.testing.assert_array_equal(layers["x"], ROWS)


def spoiled(value: float | None, *, fixed: bool) -> pa.Array:
    rows: list[Any] = ROWS.tolist()
    rows[17][3] = value
    return pa.array(rows, pa.list_(pa.float32(), 5) if fixed else pa.list_(pa.float32()))


def missing(*, fixed: bool) -> pa.Array:
    rows: list[Any] = ROWS.tolist()
    rows[17] = None
    return pa.array(rows, pa.list_(pa.float32(), 5) if fixed else pa.list_(pa.float32()))


RAGGED = [*ROWS[:17].tolist(), [1.0, 2.0], *ROWS[18:].tolist()]
REFUSED: dict[str, tuple[dict[str, Any], type[InputError], str]] = {
    "a null row": ({"x": missing(fixed=True)}, InvalidShape, "row 17 of x: null"),
    "a null row among lists of any size": ({"x": missing(fixed=False)}, InvalidShape, "row 17 of x: null"),
    "a null value": ({"x": spoiled(None, fixed=True)}, NonFiniteValues, "row 17, column 3 of layer x: null"),
    "a null value among others": ({"x": spoiled(None, fixed=False)}, NonFiniteValues, "row 17, column 3 of layer x: null"),
    "NaN": ({"x": spoiled(float("nan"), fixed=False)}, NonFiniteValues, "row 17, column 3 of layer x: nan"),
    "a ragged row": ({"x": lists(RAGGED)}, InvalidShape, "Row 17 of the column 'x' has 2 entries, but the first row has 5"),
    "an empty row": ({"x": lists([*ROWS[:17].tolist(), [], *ROWS[18:].tolist()])}, InvalidShape, "Row 17"),
    "lists of nothing": ({"x": lists([[]] * 23)}, InvalidShape, "(23, 0)"),
    "three rows": ({"x": vectors(ROWS[:3])}, TooFewRows, "(3, 5)"),
    "no rows": ({"x": vectors(ROWS)[:0]}, TooFewRows, "(0, 5)"),
    "no rows of lists": ({"x": lists([])}, TooFewRows, "(0, 1)"),
    "numbers that are no lists": ({"x": pa.array(ROWS[:, 0]), "t": NAMES}, UnsupportedDtype, "x: float, t: string"),
    "lists of integers": ({"x": pa.array([[1]] * 9)}, UnsupportedDtype, "x: list<"),
    "lists of lists": ({"x": pa.array([[[1.0]]] * 9)}, UnsupportedDtype, ": double>>"),
    "structs": ({"x": pa.array([{"a": [1.0]}] * 9)}, UnsupportedDtype, "x: struct"),
    "ids and id": ({"id": NAMES, "ids": NAMES, "x": vectors(ROWS)}, InvalidRequest, "['id', 'ids']"),
    "ids that are floats": ({"id": ROWS[:, 0], "x": vectors(ROWS)}, UnsupportedDtype, "float"),
    "ids that are bytes": ({"id": [b"x"] * 23, "x": vectors(ROWS)}, UnsupportedDtype, "binary"),
    "a missing id": ({"id": [*NAMES[:17], None, *NAMES[18:]], "x": vectors(ROWS)}, InvalidRequest, "Entry 17 of `id` is null"),
    "an empty group": ({"group": [*NAMES[:17], "", *NAMES[18:]], "x": vectors(ROWS)}, InvalidRequest, "Entry 17 of `group`"),
    "an unprintable id": ({"id": [*NAMES[:17], "\0", *NAMES[18:]], "x": vectors(ROWS)}, InvalidRequest, r"'\x00'"),
    "a layer without a name": ({"": vectors(ROWS)}, UnsupportedFormat, "''"),
    "a layer with a line feed": ({"a\nb": vectors(ROWS)}, UnsupportedFormat, r"'a\nb'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("kind", ["parquet", "arrow-stream"])
def test_an_unusable_table_is_refused_with_the_position(tmp_path: Path, kind: str, name: str) -> None:
    columns, error, message = REFUSED[name]
    with pytest.raises(error) as caught:
        read(tmp_path, write(kind, pa.table(columns), 9))
    assert message in f"{caught.value.detail} {caught.value.value}"


def test_columns_with_ambiguous_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match="ambiguous"):
        read(tmp_path, write("parquet", pa.table({"a": [{"b": 1.0}] * 23, "a.b": vectors(ROWS)})))


def test_duplicate_column_names_are_refused(tmp_path: Path, kind: str) -> None:
    table = pa.Table.from_arrays([vectors(ROWS), vectors(ROWS)], names=["x", "x"])
    with pytest.raises(UnsupportedFormat, match="same name"):
        read(tmp_path, write(kind, table))


def test_labels_over_their_limit_are_refused(tmp_path: Path, kind: str) -> None:
    table = pa.table({"id": NAMES, "x": vectors(ROWS)})
    with pytest.raises(TooLarge, match="column `id` has more than 100 bytes"):
        read(tmp_path, write(kind, table), FormatLimits(column_bytes=100))


def test_ids_both_inside_and_beside_a_table_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(write("parquet", pa.table({"id": NAMES, "x": vectors(ROWS)})))
    with open_path(tmp_path / "a") as file, pytest.raises(InvalidRequest, match="inside"):
        file.with_columns(tuple(NAMES), None)


@pytest.mark.parametrize("limits", [{"rows": 22}, {"dim": 4}, {"layers": 1}, {"unpacked_bytes": 900}])
def test_tables_respect_the_limits_of_all_formats(tmp_path: Path, kind: str, limits: dict[str, int]) -> None:
    with pytest.raises(TooLarge):
        read(tmp_path, write(kind, pa.table({"x": vectors(ROWS), "y": vectors(ROWS)})), FormatLimits(**limits))


def test_a_missing_pyarrow_is_reported_with_the_extra_to_install(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(write("parquet", pa.table({"x": vectors(ROWS)})))
    script = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from consilience.formats.files import read_layers\n"
        "try: read_layers(sys.argv[1])\n"
        "except Exception as error: print(error.code, error)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a")]
    message = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert message == (
        "missing-extra Reading Parquet and Arrow needs pyarrow, which is not installed. "
        "Run: pip install 'consilience[parquet]'.\n"
    )


def test_a_truncated_table_is_refused_at_any_length(tmp_path: Path, kind: str) -> None:
    data = write(kind, pa.table({"id": NAMES, "x": vectors(ROWS)}), 9)
    for length in {1, 4, 12, 60, len(data) // 2, len(data) - 9, len(data) - 8, len(data) - 4, len(data) - 1}:
        with pytest.raises((UnreadableFile, UnsupportedFormat)):
            read(tmp_path, data[:length])
