"""Run the numerical tests once for each set of matrix kernels that this processor supports: `make kernels`.

Results must not depend on the kernels of a library, on its level of instructions, or on the number of threads.
"""

import os
import subprocess
import sys

from llvmlite import binding

#: Tests whose numbers depend on matrix products: numerics, metrics, and tasks on a cluster.
TESTS = ("tests/numerics", "tests/metrics", "tests/execution/test_alignment_on_a_cluster.py")
NAMES = ("OPENBLAS_CORETYPE", "FAISS_OPT_LEVEL", "ATEN_CPU_CAPABILITY", "OMP_NUM_THREADS")
#: Values of the variables in each run; None leaves a variable unset, so that the library chooses for the processor.
TABLE = (
    ("Haswell", "generic", "default", "1"),
    ("Haswell", "avx2", "avx2", "2"),
    (None, "generic", "avx2", "2"),
    ("SkylakeX", None, None, "1"),
)
#: Instructions that the kernels of a processor type need.
NEEDED = {"Haswell": "avx2", "SkylakeX": "avx512f"}


def main() -> int:
    """Run all tests in every environment; return 0 if all pass."""
    features = binding.get_host_cpu_features()
    failed = []
    for row in TABLE:
        chosen = {name: value for name, value in zip(NAMES, row, strict=True) if value is not None}
        label = " ".join(f"{name}={value}" for name, value in chosen.items())
        needed = NEEDED.get(chosen.get("OPENBLAS_CORETYPE", ""))
        if needed is not None and not features.get(needed, False):
            sys.stdout.write(f"{label}: skipped, this processor has no {needed}\n")
            continue
        sys.stdout.write(f"{label}\n")
        sys.stdout.flush()  # before the tests write
        environment = {name: value for name, value in os.environ.items() if name not in NAMES} | chosen
        environment["OPENBLAS_NUM_THREADS"] = chosen["OMP_NUM_THREADS"]
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *TESTS]
        if subprocess.run(command, env=environment, check=False).returncode:
            failed.append(label)
    for label in failed:
        sys.stdout.write(f"Failed with {label}\n")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
