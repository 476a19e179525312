"""Canonical JSON and its digest: one text for one document, whatever the order of its keys."""

import hashlib
import json
from typing import Any


def canonical(document: Any) -> bytes:
    """The document as JSON without blanks, keys sorted."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def fingerprint(document: Any, *, digits: int = 32) -> str:
    """Hexadecimal digits of a document's canonical JSON."""
    return hashlib.blake2b(canonical(document), digest_size=digits // 2).hexdigest()
