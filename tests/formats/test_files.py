"""Choice of the reader by the media type or the bytes."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save_file

from consilience.errors import UnreadableFile, UnsupportedFormat
from consilience.formats.files import MEDIA_TYPES, FormatLimits, open_file, open_path, read_layers
from tests.formats.tables.table_files import KINDS, vectors, write

ARRAY = np.arange(12, dtype="f4").reshape(4, 3)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """One file of each format, with uninformative names."""
    paths = {name: tmp_path / f"{i}.bin" for i, name in enumerate(MEDIA_TYPES.values())}
    for name, save in (("npy", np.save), ("npz", np.savez)):
        with paths[name].open("wb") as file:
            save(file, ARRAY)
    save_file({"a": ARRAY}, paths["safetensors"])
    for kind in KINDS:
        paths[kind].write_bytes(write(kind, pa.table({"a": vectors(ARRAY)})))
    paths["json"].write_text(f'\n {{"vectors": {ARRAY.tolist()}}}')
    return paths


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
@pytest.mark.parametrize("header", ["exact", "upper case", "none", "octets"])
def test_the_format_is_found_by_the_media_type_or_the_bytes(
    files: dict[str, Path], media_type: str, header: str
) -> None:
    sent = {
        "exact": media_type,
        "upper case": f" {media_type.upper()}; charset=utf-8",
        "none": None,
        "octets": "application/octet-stream",
    }[header]
    with open_file(files[MEDIA_TYPES[media_type]], sent, FormatLimits()) as file:
        np.testing.assert_array_equal(np.concatenate([rows for _, rows in file.blocks()]), ARRAY)


@pytest.mark.parametrize("claimed", MEDIA_TYPES)
@pytest.mark.parametrize("real", MEDIA_TYPES.values())
def test_a_file_of_another_format_than_its_media_type_is_unreadable(
    files: dict[str, Path], claimed: str, real: str
) -> None:
    if MEDIA_TYPES[claimed] != real:
        with pytest.raises(UnreadableFile), open_file(files[real], claimed, FormatLimits()):
            pass


@pytest.mark.parametrize("media_type", ["text/csv", "application/x-www-form-urlencoded", "npy", "application/zip"])
def test_another_media_type_is_refused_with_the_supported_ones(files: dict[str, Path], media_type: str) -> None:
    with pytest.raises(UnsupportedFormat) as caught:
        open_file(files["npy"], media_type, FormatLimits())
    assert caught.value.value == media_type
    assert "application/x-npy" in str(caught.value.hint)


@pytest.mark.parametrize(
    "content", [pickle.dumps([1.0]), b"PARE....", b"FEA1....", b"\x89HDF\r\n\x1a\n", b"1,2,3\n4,5,6\n", bytes(99)]
)
def test_unknown_bytes_are_refused_with_a_quotation_of_their_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(UnsupportedFormat) as caught:
        open_path(tmp_path / "a.npy")
    assert caught.value.value == str(content[:16])


def test_a_torch_file_which_is_a_zip_of_pickles_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps([1.0]))
    with pytest.raises(UnsupportedFormat, match="never read") as caught, open_path(tmp_path / "a.pt"):
        pass
    assert "data.pkl" in str(caught.value.value)


@pytest.mark.parametrize("media_type", [None, *MEDIA_TYPES])
def test_an_empty_file_is_refused(tmp_path: Path, media_type: str | None) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(UnreadableFile), open_file(tmp_path / "a", media_type, FormatLimits()):
        pass


def test_a_path_that_is_not_a_file_is_refused_with_its_name(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.npy", Path("/dev/zero")):
        with pytest.raises(UnreadableFile) as caught:
            read_layers(path)
        assert caught.value.value == str(path)


def test_an_error_inside_the_callers_block_is_raised_unchanged(files: dict[str, Path]) -> None:
    for path in files.values():
        with pytest.raises(ZeroDivisionError), open_path(path):
            raise ZeroDivisionError
