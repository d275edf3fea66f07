"""Any bytes are read cleanly or refused with an InputError, quickly and in little memory."""

import io
import json
import tempfile
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from consilience.errors import InputError
from consilience.formats.files import MEDIA_TYPES, FormatLimits, open_file

ARRAY = np.random.default_rng(0).standard_normal((6, 3)).astype("f4")
FEW = settings(max_examples=150, deadline=timedelta(seconds=5))
MEMORY_LIMIT_BYTES = 64 * 1024 * 1024


def ingest(data: bytes, media_type: str | None = None) -> None:
    """Read a file completely, or raise an InputError."""
    with tempfile.NamedTemporaryFile() as temporary:
        path = Path(temporary.name)
        path.write_bytes(data)
        try:
            with open_file(path, media_type, FormatLimits()) as file:
                rows = [0] * len(file.layers)
                for index, block in file.blocks():
                    rows[index] += len(block)
                    assert np.isfinite(block).all()
                    assert block.shape[1] == file.layers[index].dim
                assert rows == [file.n] * len(rows)
        except InputError:
            pass


def numpy_bytes(writer: Callable[..., None]) -> bytes:
    stream = io.BytesIO()
    writer(stream, ARRAY)
    return stream.getvalue()


VALID = {
    "npy": numpy_bytes(np.save),
    "npz": numpy_bytes(np.savez),
    "npz, deflated": numpy_bytes(np.savez_compressed),
    "safetensors": save({"a": ARRAY, "b": ARRAY.astype("f8")}),
    "json": json.dumps({"vectors": ARRAY.tolist()}).encode(),
}


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A valid file with a few bytes changed, removed, inserted or truncated, mostly in its header."""
    data = bytearray(draw(st.sampled_from(list(VALID.values()))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, draw(st.sampled_from([min(160, len(data)), len(data)]))))
        piece = draw(st.binary(max_size=8) | st.sampled_from([b"\xff" * 8, b"\0" * 8, b"9" * 20, b"PK\x01\x02"]))
        data[at : at + draw(st.integers(0, 8))] = piece
    return bytes(data[: draw(st.none() | st.integers(0, len(data)))])


@FEW
@given(mutations(), st.sampled_from([None, *MEDIA_TYPES]))
def test_a_damaged_file_is_read_cleanly_or_refused(data: bytes, media_type: str | None) -> None:
    ingest(data, media_type)


@FEW
@given(st.binary(max_size=300), st.sampled_from([None, *MEDIA_TYPES]))
def test_random_bytes_are_refused(data: bytes, media_type: str | None) -> None:
    ingest(data, media_type)


SIZES = st.integers(-2, 8) | st.sampled_from([2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**12, 10**30])
LITERALS = st.recursive(
    st.none() | st.booleans() | SIZES | st.floats() | st.text(max_size=4) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
DESCRS = st.sampled_from(["<f4", ">f8", "=f2", "f4", "|O", "<i8", "V2", "<f16", "(2,)f4", "f4,f4", "a4", "float32"])


@FEW
@given(
    DESCRS | LITERALS,
    st.booleans() | LITERALS,
    st.lists(SIZES, max_size=4).map(tuple) | LITERALS,
    st.sampled_from([0, 32, 72]),
)
def test_any_npy_header_is_read_cleanly_or_refused(descr: object, order: object, shape: object, size: int) -> None:
    header = repr({"descr": descr, "fortran_order": order, "shape": shape}).encode("utf-8", "replace")
    ingest(b"\x93NUMPY\x03\x00" + len(header).to_bytes(4, "little") + header + bytes(size), "application/x-npy")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | SIZES | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "F64", "I8", "F8_E4M3"]) | JSON_VALUES,
        "shape": st.lists(SIZES, max_size=4) | JSON_VALUES,
        "data_offsets": st.lists(SIZES | st.integers(0, 72), min_size=2, max_size=2) | JSON_VALUES,
    }
)


@FEW
@given(st.dictionaries(st.text(max_size=5), ENTRIES | JSON_VALUES, max_size=3) | JSON_VALUES, st.integers(0, 96))
def test_any_safetensors_header_is_read_cleanly_or_refused(header: object, size: int) -> None:
    raw = json.dumps(header).encode()
    ingest(len(raw).to_bytes(8, "little") + raw + bytes(size), "application/x-safetensors")


@FEW
@given(st.dictionaries(st.sampled_from(["vectors", "layers", "x"]), JSON_VALUES, max_size=2) | JSON_VALUES)
def test_any_json_document_is_read_cleanly_or_refused(document: object) -> None:
    ingest(json.dumps(document).encode(), "application/json")


HUGE = [2**31, 2**40, 10**12, 2**63, 10**30]


@pytest.mark.parametrize("rows", HUGE)
def test_a_header_that_lies_about_its_size_costs_no_memory(rows: int) -> None:
    npy = repr({"descr": "<f8", "fortran_order": False, "shape": (rows, 768)}).encode()
    entry = {"dtype": "F64", "shape": [rows, 768], "data_offsets": [0, rows * 768 * 8]}
    safetensors = json.dumps({"a": entry}).encode()
    tracemalloc.start()
    try:
        ingest(b"\x93NUMPY\x01\x00" + len(npy).to_bytes(2, "little") + npy + bytes(64))
        ingest(len(safetensors).to_bytes(8, "little") + safetensors + bytes(64))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_LIMIT_BYTES
