"""Options of the kernel and distance metrics that `test_laws` checks."""

VARIANTS: dict[str, list[dict[str, object]]] = {
    "cka": [
        *({"debiased": debiased, "definition": name} for debiased in (True, False) for name in ("standard", "prh")),
        *({"kernel": "rbf", "debiased": debiased} for debiased in (True, False)),
        {"kernel": "rbf", "sigma": 0.8, "definition": "prh"},
    ],
    "rv": [{}],
    "angular_cka": [{}],
    "distance_correlation": [{}, {"bias_corrected": False}],
    "rsa": [
        *({"method": method} for method in ("spearman", "pearson")),
        *({"method": method, "distance": "cosine"} for method in ("spearman", "pearson")),
        *({"method": method, "distance": "euclidean"} for method in ("spearman", "pearson")),
        {"pairs": 1000},
    ],
}
