"""Options of the metrics of fitted directions that `test_laws` checks."""

VARIANTS: dict[str, list[dict[str, object]]] = {
    "cca_mean": [{}],
    "cca_r2": [{}],
    "svcca": [{"components": 4}, {"components": None, "scaling": "centre"}],
    "pwcca": [{}],
    "eigenspace_overlap": [{}],
    "linear_predictivity": [{"direction": "ab"}, {"direction": "ba"}, {"direction": "mean", "folds": 2, "ridge": 1e-7}],
    "procrustes": [{}],
    "angular_shape": [{"alpha": alpha} for alpha in (1.0, 0.5, 0.0)],
    "bures": [{}],
    "gulp": [{}, {"ridge": 1.0}],
}
