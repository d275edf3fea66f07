"""Runs the tests of numerics once for each set of kernels that this processor can multiply with: `make kernels`.

Results must not depend on the kernels of a library, on its level of instructions, or on the number of threads.
"""

import os
import subprocess
import sys

from llvmlite import binding

#: The tests whose numbers come from products: all of numerics and metrics, and parts on a cluster.
TESTS = ("tests/numerics", "tests/metrics", "tests/execution/test_alignment_on_a_cluster.py")
NAMES = ("OPENBLAS_CORETYPE", "FAISS_OPT_LEVEL", "ATEN_CPU_CAPABILITY", "OMP_NUM_THREADS")
#: Every value of each variable occurs; None leaves it unset, so that the library chooses for the processor.
TABLE = (
    ("Haswell", "generic", "default", "1"),
    ("Haswell", "avx2", "avx2", "2"),
    (None, "generic", "avx2", "2"),
    ("SkylakeX", None, None, "1"),
)
#: The instructions that a kind of processor has: one that lacks them cannot run its kernels.
NEEDED = {"Haswell": "avx2", "SkylakeX": "avx512f"}


def main() -> int:
    """Run all tests in every environment; 0 where all pass."""
    features = binding.get_host_cpu_features()
    failed = []
    for row in TABLE:
        chosen = {name: value for name, value in zip(NAMES, row, strict=True) if value is not None}
        told = " ".join(f"{name}={value}" for name, value in chosen.items())
        needed = NEEDED.get(chosen.get("OPENBLAS_CORETYPE", ""))
        if needed is not None and not features.get(needed, False):
            sys.stdout.write(f"{told}: skipped, this processor has no {needed}\n")
            continue
        sys.stdout.write(f"{told}\n")
        sys.stdout.flush()  # before the tests write
        environment = {name: value for name, value in os.environ.items() if name not in NAMES} | chosen
        environment["OPENBLAS_NUM_THREADS"] = chosen["OMP_NUM_THREADS"]
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *TESTS]
        if subprocess.run(command, env=environment, check=False).returncode:
            failed.append(told)
    for told in failed:
        sys.stdout.write(f"Failed with {told}\n")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
