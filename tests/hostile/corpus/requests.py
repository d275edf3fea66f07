"""Malicious JSON requests, addresses and parameters."""

import json

from tests.hostile.corpus.attack import Attack, get, post
from tests.hostile.test_bad_requests import BAD_ADDRESSES, BAD_REQUESTS, NO_JSON

JSON = "application/json"
SIDES = b'"a": {"vectors": [[1],[2],[3],[4]]}, "b": {"vectors": [[1],[2],[3],[4]]}'

BODIES: dict[str, bytes] = {
    "no bottom": b'{"a":' * 1_000_000,
    "ten thousand metrics": b"{" + SIDES + b', "metrics": [' + b'"cka",' * 10_000 + b'"cka"]}',
    "a metric's name of 1 MB": b"{" + SIDES + b', "metrics": "' + b"x" * 1_000_000 + b'"}',
    "a layer's name of control characters": b"{" + SIDES + b', "layers": {"a": ["\\u0000\\u001b[2J"]}}',
    "a million keys": b"{" + b",".join(b'"%d":1' % i for i in range(500_000)) + b"}",
    "a million times the same key": b"{" + b'"a":1,' * 1_000_000 + b'"a":1}',
    "a seed of a million digits": b"{" + SIDES + b', "seed": ' + b"9" * 1_000_000 + b"}",
    "draws without end": b"{" + SIDES + b', "null": {"method": "permutation", "permutations": 1000000000000}}',
    "a k without end": b"{" + SIDES + b', "metrics": {"metric": "mutual_knn", "k": 9223372036854775808}}',
    "metadata that draws": b"{" + SIDES + b', "metadata": {"x": "\\ud83d"}}',
    "another encoding": ("{" + SIDES.decode() + "}").encode("utf-16"),
}
#: Routes that read JSON.
READERS = ("/v1/datasets", "/v1/maps", "/v1/references", "/v1/studies", "/v1/upgrades")
EVERYWHERE = ("no bottom", "a million keys", "another encoding")
ADDRESSES = {
    "a path that climbs": ("GET", "/v1/embeddings/" + "..%2f" * 20 + "etc/passwd"),
    "an id of control characters": ("GET", "/v1/jobs/%1b%5b2J%0d%0aX-Evil:%20yes"),
    "an id in another alphabet": ("DELETE", "/v1/embeddings/emb_%D9%A0"),
    "a query of 40 KB": ("GET", "/v1/jobs?cursor=" + "x" * 40_000),
    "two thousand parameters": ("GET", "/v1/jobs?limit=0&" + "&".join(f"a{i}=1" for i in range(2000))),
    "a name that climbs": ("POST", "/v1/embeddings?name=..%2f..%2fetc%2fpasswd"),
    "a name of control characters": ("POST", "/v1/embeddings?name=a%0d%0aX-Evil:%20yes"),
    "metadata without bottom": ("GET", "/v1/embeddings?metadata=" + "[" * 30_000),
    "another method": ("BREW", "/v1/jobs"),
    "TRACE": ("TRACE", "/v1/jobs"),
}

ATTACKS: dict[str, Attack] = {
    **{f"request: {name}": post("/v1/alignments", json.dumps(body).encode(), JSON)
       for name, (body, *_) in BAD_REQUESTS.items()},
    **{f"request: no JSON, {number}": post("/v1/alignments", body, JSON) for number, body in enumerate(NO_JSON)},
    **{f"request: {name}": post("/v1/alignments", body, JSON) for name, body in BODIES.items()},
    **{f"request to {path}: {name}": post(path, BODIES[name], JSON) for path in READERS for name in EVERYWHERE},
    **{f"address: {method} {path}": get(method, path) for method, path, *_ in BAD_ADDRESSES},
    **{f"address: {name}": get(method, path) for name, (method, path) in ADDRESSES.items()},
}  # fmt: skip
