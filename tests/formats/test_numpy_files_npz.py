"""Reading of npz archives, valid and invalid."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from consilience.errors import (
    ConsilienceError,
    InvalidShape,
    NonFiniteValues,
    TooFewRows,
    TooLarge,
    UnreadableFile,
    UnsupportedDtype,
    UnsupportedFormat,
)
from consilience.formats.files import FormatLimits, open_path, read_layers
from consilience.formats.open_file import Array


def refusal(path: Path, kind: type[ConsilienceError], limits: FormatLimits | None = None) -> ConsilienceError:
    with pytest.raises(kind) as caught, open_path(path, limits) as file:
        for _ in file.blocks():
            pass
    return caught.value


def npy(array: Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def zipped(path: Path, members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def matrix(n: int = 6, dim: int = 3) -> Array:
    return np.random.default_rng(0).standard_normal((n, dim)).astype("f4")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_each_member_is_a_layer_of_its_name_in_natural_order(tmp_path: Path, save: object) -> None:
    path = tmp_path / "a.npz"
    arrays = {"layer10": matrix(2000, 900), "layer2": matrix(2000, 64).astype("f2"), "embed": matrix(2000, 1)}
    save(path, **arrays)  # type: ignore[operator]  # one of numpy's two
    layers = read_layers(path)
    assert [name for name, _ in layers] == ["embed", "layer2", "layer10"]
    for name, values in layers:
        np.testing.assert_array_equal(values, arrays[name])


def test_a_single_3d_member_is_a_stack_of_layers(tmp_path: Path) -> None:
    path, array = tmp_path / "a.npz", np.random.default_rng(0).standard_normal((9, 3, 5)).astype("f4")
    np.savez(path, hidden=array)
    assert [name for name, _ in read_layers(path)] == ["0", "1", "2"]
    np.testing.assert_array_equal(read_layers(path)[2][1], array[:, 2])


def test_a_3d_member_among_others_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.zeros((9, 3, 5)), b=np.zeros((9, 5)))
    assert refusal(tmp_path / "a.npz", InvalidShape).value == "a: (9, 3, 5)"


def test_members_of_different_numbers_of_rows_are_refused_by_both_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=matrix(5), b=matrix(6))
    assert refusal(tmp_path / "a.npz", InvalidShape).value == "a: 5 rows, b: 6 rows"


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.zeros((9, 2), "i4"), UnsupportedDtype),
        (np.array([[{}]] * 4, dtype=object), UnsupportedDtype),
        (np.zeros(9, "f4"), InvalidShape),
        (np.zeros((3, 2), "f4"), TooFewRows),
        (np.full((9, 2), np.nan, "f4"), NonFiniteValues),
        (np.asfortranarray(np.zeros((9, 2), "f4")), InvalidShape),
    ],
)
def test_a_member_is_checked_like_an_npy_file_and_named_in_errors(
    tmp_path: Path, array: Array, kind: type[ConsilienceError]
) -> None:
    np.savez(tmp_path / "a.npz", culprit=array)
    error = refusal(tmp_path / "a.npz", kind)
    assert "culprit" in f"{error.detail} {error.value}"


@pytest.mark.parametrize("name", ["data.pkl", "inner.npz", "inner.zip", "a.npy/", "notes.txt"])
def test_a_member_that_is_not_an_npy_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "a.npz", [("a.npy", npy(matrix())), (name, b"x")])
    assert name in str(refusal(path, UnsupportedFormat).value)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_numpy_does_not_write_are_refused(tmp_path: Path, method: int) -> None:
    refusal(zipped(tmp_path / "a.npz", [("a.npy", npy(matrix()))], method), UnsupportedFormat)


def test_a_zip_bomb_is_refused_before_a_byte_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros((8192, 1024), "f4"))
    assert path.stat().st_size < 50_000
    assert "unpacks to 335" in refusal(path, TooLarge).detail


def test_the_unpacked_size_of_an_archive_has_its_own_limit(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=matrix(100, 100))
    assert refusal(tmp_path / "a.npz", TooLarge, FormatLimits(unpacked_bytes=40_000)).limit == 40_000


def test_a_directory_that_lies_about_a_size_is_refused(tmp_path: Path) -> None:
    """A small declared size passes the limits, so the member must not unpack to more."""
    data = npy(np.zeros((8192, 1024), "f4"))
    path = zipped(tmp_path / "a.npz", [("a.npy", data)])
    true, false = (size.to_bytes(4, "little") for size in (len(data), 1000))
    path.write_bytes(path.read_bytes().replace(true, false))
    refusal(path, UnreadableFile)


def test_duplicate_member_names_are_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        path = zipped(tmp_path / "a.npz", [("a.npy", npy(matrix()))] * 2)
    assert refusal(path, UnsupportedFormat).value == "a"


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31mred", "x" * 129, "\u202eevil"])
def test_a_name_that_cannot_be_printed_is_refused(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "a.npz", [(f"{name}.npy", npy(matrix()))])
    error = refusal(path, UnsupportedFormat)
    assert str(error.value).isprintable()
    assert error.limit == 128


def test_a_path_in_a_member_name_has_no_effect(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.npz", [("../../etc/passwd.npy", npy(matrix()))])
    assert read_layers(path)[0][0] == "../../etc/passwd"
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_archive_is_refused(tmp_path: Path) -> None:
    refusal(zipped(tmp_path / "a.npz", []), UnsupportedFormat)


def test_damaged_values_are_found_by_their_checksum(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.npz", [("a.npy", npy(np.ones((50, 50), "f4")))], zipfile.ZIP_STORED)
    raw = bytearray(path.read_bytes())
    raw[5000] ^= 1
    path.write_bytes(raw)
    assert "CRC" in refusal(path, UnreadableFile).detail


@pytest.mark.parametrize("keep", [4, 100, -1, -30])
def test_a_truncated_archive_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=matrix())
    path.write_bytes(path.read_bytes()[:keep])
    refusal(path, UnreadableFile)


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.npz", [("a.npy", npy(matrix()))])
    raw = bytearray(path.read_bytes())
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    assert "encrypted" in refusal(path, UnreadableFile).detail


def test_more_members_than_the_limit_are_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.npz", [(f"{i}.npy", npy(matrix())) for i in range(5)])
    assert refusal(path, TooLarge, FormatLimits(layers=4)).value == "5"


def test_a_directory_of_very_many_members_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.npz", [(f"{i:0200}.npy", b"") for i in range(5000)])
    assert "zip directory" in refusal(path, TooLarge).detail
