"""Hostile inputs, drawn by hypothesis: good documents, archives and tensors, damaged at every level of their format."""

# ruff: noqa: E501  (tables of cases)

import copy
import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st

DEEP = "\ue000"  # stands for what json.dumps itself could not write: a nest of 10,000 lists, one of mappings, ...
MARKS = {
    f'"{DEEP}{number}"': text
    for number, text in enumerate(
        ["[" * 10_000 + "]" * 10_000, '{"a":' * 10_000 + "1" + "}" * 10_000, "9" * 5000, "1e999", "NaN", "-Infinity"]
    )
}
TEXTS = [
    "", "\0", "\ud800", "\ufeff", "\x1b[2J", "\r\n\n", "../../x", "/etc/hostname", "..", ".", "~", "a/b",
    "é\u2028\u202e", "<script>alert(1)</script>", "\\input{x}", "$\\frac$", "a" * 50_000, "𝔘" * 300, "-", "=", "%s{0}", "true",
    "1e3", "control", "name", "model.width", "model.name", "train.lr", "hrnet", "dots", "pose", "matched",
]  # fmt: skip
NUMBERS = [0, -1, 1, 2, 255, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**400, 1e308, 5e-324, 0.5, -0.0]
LEAVES = st.sampled_from([*TEXTS, *NUMBERS, None, True, False, [], {}, *(f"{DEEP}{n}" for n in range(len(MARKS)))])
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # where PyYAML has libyaml's, that is quicker
WIDE = [list(range(500)), ["a"] * 500, {str(n): n for n in range(500)}, [[0] * 20] * 20]
WORDS = st.text("ab0_.-/é\0\n", max_size=5)  # few letters: hypothesis takes half a minute to list all of Unicode
TREES = st.recursive(
    LEAVES | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.sampled_from(TEXTS), inner, max_size=4),
    max_leaves=8,
)
YAML_TOKENS = [
    "&a ", "*a", "<<: *a", "!!python/object/apply:os.system ['true']", "!!binary x", "!x ", "---\n", "...\n",
    "%YAML 9.9\n",    "? ", ": ", "- ", "|\n", ">+9\n", "\t", "{", "}", "[", "]", ",", "#", "'", '"', "@", "`", "~", "\n", "\r", "\0",
    "\u2028", "0x", "1e", "99999999999999999999", ".inf", "true", "null", "=", '"\\ud800"', '"\\x00"', "a: {a: ",
    "[" * 2000,    "- " * 2000, "? " * 500, "name: x\nname: y\n", "plugins: ['']\n", "seeds: 1000000000\n",
]  # fmt: skip
BYTE_TOKENS = [text.encode("utf-8", "surrogatepass") for text in YAML_TOKENS] + [
    b"\xff", b"\x00" * 8, b"\xff" * 8, b"\x7f" * 8, b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY", b"\x80\x04", b"cos\nsystem\n",
    (10**12).to_bytes(8, "little"), (2**31).to_bytes(4, "little"), (2**31).to_bytes(4, "big"), b"NaN", b"1e999", b"null",
]  # fmt: skip


@st.composite
def bytes_near(draw: Any, good: Sequence[bytes], tokens: Sequence[bytes] = BYTE_TOKENS) -> bytes:
    """A good file with a few places cut, doubled, overwritten or filled with what a parser may stumble over."""
    content = draw(st.sampled_from(good))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        length = draw(st.sampled_from([0, 1, 2, 8, 40]))
        what = draw(st.sampled_from(["token", "byte", "cut", "double", "end"]))
        if what == "token":
            content = content[:at] + draw(st.sampled_from(tokens)) + content[at + length :]
        elif what == "byte":
            content = content[:at] + draw(st.binary(min_size=1, max_size=3)) + content[at + 1 :]
        elif what == "end":
            content = content[:at]
        else:
            content = content[:at] + content[at : at + length] * (3 if what == "double" else 0) + content[at + length :]
    return content


@st.composite
def near(draw: Any, good: Sequence[Any]) -> Any:
    """A good document with a few of its places, at any depth, replaced, removed, renamed or added to."""
    document = json.loads(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(1, 3))):
        places = _places(document)
        if not places:
            return draw(TREES)
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        what = draw(st.sampled_from(["leaf", "leaf", "leaf", "tree", "tree", "remove", "rename", "swap"]))
        what = "wide" if draw(st.integers(0, 60)) == 60 else what
        if what == "remove":
            del holder[key]
        elif what == "rename" and isinstance(holder, dict):
            holder[draw(st.sampled_from(TEXTS) | WORDS)] = holder.pop(key)
        elif what == "swap":
            other, there = places[draw(st.integers(0, len(places) - 1))]
            holder[key] = json.loads(json.dumps(other[there]))
        else:
            holder[key] = copy.deepcopy(draw({"wide": st.sampled_from(WIDE), "tree": TREES}.get(what, LEAVES)))
    return document


def _places(document: Any) -> list[tuple[Any, Any]]:
    found, stack = [], [document]
    while stack:
        holder = stack.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        found += [(holder, key) for key in keys]
        stack += [holder[key] for key in keys]
    return found


def as_json(document: Any) -> bytes:
    """The document as text, what stands for monsters replaced by them."""
    text = json.dumps(document, ensure_ascii=False)
    for mark, monster in MARKS.items():
        text = text.replace(mark, monster)
    return text.encode("utf-8", "surrogatepass")


def as_yaml(document: Any) -> bytes:
    """The document in YAML's own style; as JSON where PyYAML will not write it."""
    try:
        return yaml.dump(document, Dumper=DUMPER, allow_unicode=True).encode("utf-8", "surrogatepass")
    except (yaml.YAMLError, UnicodeError):
        return as_json(document)


@st.composite
def texts_near(draw: Any, good: Sequence[str]) -> bytes:
    """Documents in JSON or YAML, most of them still well-formed."""
    content = draw(st.sampled_from([as_json, as_json, as_yaml]))(draw(near(good)))
    return draw(bytes_near([content])) if draw(st.integers(0, 4)) == 0 else content


class Trap:
    """An object whose pickle calls `os.mkdir` when it is read, which the watch on files would see."""

    def __reduce__(self) -> Any:
        import os

        return os.mkdir, ("sprung",)


def npy(header: str, data: bytes, *, version: int = 1) -> bytes:
    """An .npy file with a header of our choosing."""
    text = header.encode("utf-8", "surrogatepass")
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text + data


SHAPES = [
    "(3,)",
    "()",
    "(10**12,)",
    f"({10**12},)",
    f"({2**62}, {2**62})",
    "(0,)",
    f"(0, {10**30})",
    "(-1,)",
    "(True,)",
    "3",
]
DTYPES = [
    "'<f8'", "'|O'", "'<U1000000000'", "'|V2000000000'", "'<i4'", "'|b1'", "'M8[ns]'", "'xx'", "[('a', '<f8')]", "None", "3",
    "[('a', '|O')]", "(" * 300, "{'a': 3}", "'<c16'", "'|S0'",
]  # fmt: skip


@st.composite
def archives(draw: Any, good: Sequence[bytes]) -> bytes:
    """.npz files: damaged, with pickles, with headers that promise too much, bombs, and members with other names."""
    kind = draw(st.sampled_from(["damaged", "damaged", "headers", "bomb", "pickle", "names"]))
    if kind == "damaged":
        return draw(bytes_near(good))
    buffer = io.BytesIO()
    if kind == "pickle":
        np.savez(buffer, **{"closeness/error": np.array([Trap()], dtype=object)}, allow_pickle=True)
        return buffer.getvalue()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        if kind == "bomb":
            size = draw(st.sampled_from([10**6, 3 * 10**6]))
            header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size},), }}\n"
            for number in range(draw(st.integers(1, 4))):
                file.writestr(f"closeness/{number}.npy", npy(header, bytes(size)))
        elif kind == "names":
            for name in draw(
                st.lists(st.sampled_from(["a.npy", "../x.npy", "/x", ".", "é.npy", "a" * 60_000]), max_size=4)
            ):
                file.writestr(name, draw(st.binary(max_size=20)))
        else:
            header = f"{{'descr': {draw(st.sampled_from(DTYPES))}, 'fortran_order': False, 'shape': " + (
                f"{draw(st.sampled_from(SHAPES))}, }}\n"
            )
            version = draw(st.sampled_from([1, 2, 3, 9]))
            file.writestr("closeness/error.npy", npy(header, draw(st.binary(max_size=64)), version=version))
    content = buffer.getvalue()
    return draw(bytes_near([content])) if draw(st.integers(0, 3)) == 0 else content
