"""Memory of reading a file, which does not grow with its size."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

#: Ingests a small file first, so that every module is loaded, then measures the peak of the large one.
SCRIPT = """
import sys
from pathlib import Path
from consilience.formats.files import open_path
from consilience.stores.blobs import BlobStore

def status(field):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if field in line)

def ingest(path):
    with open_path(path) as file:
        for layer in blobs.put(file):
            stored = blobs.open(layer, file.n)
            for start in range(0, file.n, 4096):
                stored.rows(start, start + 4096)

blobs, (small, large) = BlobStore(Path(sys.argv[1])), sys.argv[2:]
ingest(small)
before = status("VmRSS")
ingest(large)
print(status("VmHWM") - before)
"""


@pytest.mark.parametrize(
    ("header", "order"),
    [({"descr": "<f8", "shape": (18_600, 7, 384)}, False), ({"descr": "<f8", "shape": (65_536, 768)}, True)],
    ids=["layers", "fortran"],
)
def test_a_400_mb_file_costs_under_60_mb(tmp_path: Path, header: dict[str, object], order: bool) -> None:
    small, large = tmp_path / "small.npy", tmp_path / "large.npy"
    np.save(small, np.ones((9, 3, 5)))
    with large.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {**header, "fortran_order": order})
        file.truncate(file.tell() + 8 * int(np.prod(header["shape"])))  # type: ignore[call-overload]  # a tuple of sizes
    assert large.stat().st_size > 390_000_000
    try:
        command = [sys.executable, "-c", SCRIPT, *map(str, (tmp_path / "blobs", small, large))]
        grown_kb = int(subprocess.run(command, check=True, capture_output=True, cwd=Path.cwd()).stdout)
    finally:
        for blob in (tmp_path / "blobs" / "layers").glob("*/*"):
            blob.unlink()
    assert grown_kb < 60_000
