"""What embedding a dataset will cost, as far as it can be said without the model: by its kind. Standard library and contract.

The service has no weights and no libraries that run them; a model's size is known to the worker alone. So this is a guess
for a small model on two cores, made to tell minutes from hours; the job's progress soon knows better. Nothing is refused by it.
"""

from consilience.contract.extraction import Extraction
from consilience.contract.jobs import Plan
from consilience.contract.models import ModelKind, parse_model

#: Items a second.
RATES: dict[ModelKind, float] = {
    "hf": 60.0,
    "st": 60.0,
    "local": 60.0,
    "timm": 8.0,
    "endpoint": 100.0,
    "baseline": 1500.0,
}
#: Importing the libraries and loading the weights.
LOADING_S, LOADING_BASELINE_S = 6.0, 1.0
#: Of a process that runs a small model, and of one that runs none.
BYTES, BYTES_BASELINE = 1_500_000_000, 400_000_000


def plan_extraction(request: Extraction, n: int) -> Plan:
    """Guess what embedding n items costs."""
    kind = parse_model(request.model).kind
    light = kind in {"baseline", "endpoint"}
    return Plan(
        n=n,
        flops=0.0,
        bytes=BYTES_BASELINE if light else BYTES,
        seconds=round((LOADING_BASELINE_S if light else LOADING_S) + n / RATES[kind], 1),
    )
