"""Options of the neighbour metrics that `test_laws` checks."""

VARIANTS: dict[str, list[dict[str, object]]] = {
    "mutual_knn": [{"k": 1}, {"k": 10}],
    "jaccard_knn": [{"k": 1}, {"k": 10}],
    "rank_similarity": [{"k": 1}, {"k": 10}],
    "lcs_knn": [{"k": 10}, {"k": 10, "raw": True}],
    "edit_distance_knn": [{"k": 10}],
    "second_order_cosine": [{"k": 1}, {"k": 10}],
    "cycle_knn": [{"k": 3, "direction": direction} for direction in ("ab", "ba", "mean")],
    "cknna": [{"k": 10, "variant": variant} for variant in ("prh", "paper", "biased")],
}
