"""Files made to do harm: headers that lie, bombs, names that lead out, checksums that are right all the same."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from reliability.file_damage import MEGABYTE, TEXTS, VERSIONS, Case, changed_arrays, changed_tree, dumped
from reliability.file_readers import TEXT, Reader, idx, records, tar

# --- npz --------------------------------------------------------------------------------------------------------------

SHAPES = [
    "(4611686018427387904,)", "(1073741824, 1073741824)", "(9223372036854775807, 2)", "(18446744073709551616,)", "(0,)",
    "(0, 4611686018427387904)", "(-1,)", "(True,)", "(3.0,)", "('3',)", "3", "[3]", "(3)", "()", "(1,)" * 2,
    "(1" + ", 1" * 70 + ")", "(" * 3000 + ")" * 3000, "-" * 9000 + "1", "(3L,)", "(__import__('os').getpid(),)",
    "(10**9,)", "(1_0,)",
]  # fmt: skip
DESCRS = [
    "'|O'", "'<f3'", "'<f16'", "'<f4' * 9", "'<U1000000000'", "'|V2147483647'", "'<M8[s]'", "'>f4'", "'=f4'", "'f4'",
    "'float32'", "None", "[('a', '<f4')]", "('<f4', (1000000000,))", "''", "3", "'|S1000000000'", "'<f4,<f4'",
]  # fmt: skip


def npy(
    descr: str = "'<f4'", order: str = "False", shape: str = "(3,)", body: bytes = bytes(12), version: int = 1
) -> bytes:
    """An .npy file whose header says what it is told to."""
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    length = struct.pack("<H" if version == 1 else "<I", len(header)) if len(header) < 1 << 16 else b"\xff\xff"
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + body


def zipped(entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file of these entries, the same name twice too."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.simplefilter("ignore")
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def _overlapping(count: int) -> bytes:
    """A directory of many names for one entry of a megabyte."""
    one = zipped([("a.npy", npy(shape=f"({MEGABYTE // 4},)", body=bytes(MEGABYTE)))])
    start = one.index(b"PK\x01\x02")
    end = one.index(b"PK\x05\x06")
    directory = one[start:end] * count
    return one[:start] + directory + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(directory), start, 0)


def npz_by_hand(reader: Reader) -> Iterator[Case]:
    """Archives that no program of good will writes, around the entries of an intact one."""
    with zipfile.ZipFile(io.BytesIO(reader.intact)) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    name, first = entries[0]
    rest = entries[1:]
    for shape in SHAPES:
        yield f"shape {shape[:40]}", zipped([(name, npy(shape=shape)), *rest])
    for descr in DESCRS:
        yield f"descr {descr}", zipped([(name, npy(descr)), *rest])
    for version in (0, 1, 2, 3, 9, 255):
        yield f"npy version {version}", zipped([(name, npy(version=version)), *rest])
    for order in ("True", "None", "1", "'C'"):
        yield f"fortran_order {order}", zipped([(name, npy(order=order)), *rest])
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield f"compressed by {method}", zipped(entries, method)
    huge = npy(shape=f"({2 * MEGABYTE},)", body=bytes(8 * MEGABYTE))
    yield "a bomb", zipped([*entries, ("bomb.npy", huge)], zipfile.ZIP_DEFLATED)
    yield "a bomb in place of an entry", zipped([(name, huge), *rest], zipfile.ZIP_DEFLATED)
    packed = zipped(entries, zipfile.ZIP_LZMA)
    yield (
        "lzma that asks for a gigabyte",
        re.sub(rb"\x09\x04\x05\0\x5d....", b"\x09\x04\x05\0\x5d\0\0\0\x40", packed, flags=re.S),
    )
    yield "entries one over another", _overlapping(300)
    yield "an entry twice", zipped([*entries, (name, first)])
    yield "an entry twice, others", zipped([*entries, (name, npy())])
    for other in ("../x.npy", "/etc/x.npy", "..\\x.npy", "C:/x.npy", "x", "x/", ".npy", "a\0.npy", "x.npy.npy", TEXT):
        yield f"one more entry {other!r}", zipped([*entries, (other, npy())])
    yield "no entries", zipped([])
    yield "junk before", b"PK" + bytes(50) + reader.intact
    yield "junk behind", reader.intact + b"junk"
    yield "an archive behind", reader.intact + zipped([("a.npy", npy())])
    yield "an archive with that many entries", zipped([(f"{i}.npy", b"") for i in range(3000)])
    end = reader.intact.rindex(b"PK\5\6")
    for field, size in ((4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)):
        for value in (0, 1, 0xFF, (1 << 8 * size) - 1):
            yield f"end record, field {field} = {value}", _patched(reader.intact, end + field, size, value)
    for signature, fields in (
        (b"PK\1\2", (6, 8, 10, 16, 20, 24, 28, 30, 32, 34, 38, 42)),
        (b"PK\3\4", (4, 6, 8, 14, 18, 22, 26, 28)),
    ):
        start = reader.intact.index(signature)
        for field in fields:
            for value in (0, 1, 2, 9, 99, 0x0800, 0xFFFF):
                yield f"{signature!r}, field {field} = {value}", _patched(reader.intact, start + field, 2, value)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, 0, 1)
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1 << 62, 1 << 62, 1 << 62, 1 << 62)
    for place in (0, end, 1 << 62):
        lying = record + struct.pack("<4sIQI", b"PK\6\7", 0, place, 1)
        yield f"zip64 lies, {place}", reader.intact[:end] + lying + reader.intact[end:]
    yield "zip64 locator alone", reader.intact[:end] + locator + reader.intact[end:]


def _patched(content: bytes, place: int, size: int, value: int) -> bytes:
    return content[:place] + value.to_bytes(size, "little") + content[place + size :]


# --- safetensors ------------------------------------------------------------------------------------------------------


def safetensors_by_hand(reader: Reader) -> Iterator[Case]:
    """Headers that lie."""
    length = int.from_bytes(reader.intact[:8], "little")
    header, body = json.loads(reader.intact[8 : 8 + length]), reader.intact[8 + length :]
    name = next(key for key in header if key != "__metadata__")

    def with_header(text: str) -> bytes:
        content = text.encode("utf-8", "surrogatepass")
        return len(content).to_bytes(8, "little") + content + body

    for value in (0, 1, 7, 2**31, 2**40, 2**63, 2**64 - 1, len(reader.intact), len(reader.intact) - 8):
        yield f"header of {value} bytes", value.to_bytes(8, "little") + reader.intact[8:]
    lies: dict[str, list[Any]] = {
        "dtype": ["BF16", "F8_E4M3", "F64", "I64", "BOOL", "x", "", None, 3],
        "shape": [[2**62], [2**40, 2**40], [-1], [], [0], [1.5], "x", None, [2**64], [1] * 100],
        "data_offsets": [
            [0, 0],
            [0, 2**62],
            [2**63, 2**64],
            [8, 0],
            [-1, 3],
            [0],
            [],
            None,
            [0.5, 1],
            [4, 16],
            [0, len(body)],
        ],
    }
    for key, values in lies.items():
        for value in values:
            yield f"{key} = {value!r:.40}", with_header(json.dumps({**header, name: {**header[name], key: value}}))
    wrong: list[Any] = [
        None,
        {},
        [],
        "x",
        {"a": 1},
        {TEXT: "{}"},
        {TEXT: 3},
        {**header["__metadata__"], "checksum": "0"},
    ]
    for about in wrong:
        yield f"metadata {about!r:.40}", with_header(json.dumps({**header, "__metadata__": about}))
    yield "a tensor twice", with_header(json.dumps(header)[:-1] + ", " + json.dumps({name: header[name]})[1:])
    for text in TEXTS:
        yield f"header {text[:20]!r}", with_header(text)
    yield "junk behind", reader.intact + b"junk"


# --- IDX and tar ------------------------------------------------------------------------------------------------------


def idx_by_hand(rng: random.Random) -> Iterator[Case]:
    """Headers of any type and shape before a few bytes."""
    for kind in range(256):
        yield f"type {kind}", bytes([0, 0, kind, 1]) + struct.pack(">I", 4) + bytes(rng.choice([4, 8, 16, 32]))
    for dimensions in range(256):
        yield f"{dimensions} dimensions", bytes([0, 0, 8, dimensions]) + b"\0\0\0\1" * dimensions + b"\7"
    for shape in (
        [2**32 - 1],
        [2**31, 2**31],
        [2**32 - 1] * 30,
        [0],
        [0, 2**32 - 1],
        [2**30, 1],
        [2**30 + 1],
        [2, 2**29],
    ):
        yield f"shape {shape[:3]}", bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + bytes(12)
    zeros = bytes(8 * MEGABYTE)
    yield "a bomb", gzip.compress(bytes([0, 0, 8, 1]) + struct.pack(">I", 2**32 - 1) + zeros, 1)
    yield "a bomb behind a small array", gzip.compress(idx(np.ones(3, np.uint8)) + zeros, 1)
    one = gzip.compress(idx(np.ones(3, np.uint8)))
    yield "many empty members", gzip.compress(b"") * 20_000 + one
    yield "a long name", one[:3] + b"\x08" + one[4:10] + b"x" * MEGABYTE + b"\0" + one[10:]
    yield "gzip in gzip", gzip.compress(one)


def tar_by_hand(packed: bool, rng: random.Random) -> Iterator[Case]:
    """Headers with right sums that say what they should not."""
    for label, content in _tars(rng):
        yield label, gzip.compress(content, 1) if packed else content


def _tars(rng: random.Random) -> Iterator[Case]:
    whole = tar(records())
    for kind in range(256):
        yield f"type {kind}", _with_header(whole, {156: bytes([kind])})
    for size in (
        b"0" * 11,
        b"7" * 11,
        b"-7",
        b"1 2",
        b"",
        b"\x80" + bytes(10) + b"\7",
        b"\xff" * 12,
        b"9" * 11,
        b"x",
        b"1" * 12,
    ):
        yield f"size {size!r}", _with_header(whole, {124: size.ljust(12, b"\0")[:12]})
    for name in (
        b"/etc/passwd",
        b"../x",
        b"a/../../data_batch_1.bin",
        b"",
        b"\xff\xfe",
        b"x" * 100,
        b"..",
        b"data_batch_1.bin\n",
        b"a\\..\\x",
    ):
        yield f"name {name[:30]!r}", _with_header(whole, {0: name.ljust(100, b"\0")})
        yield f"prefix {name[:30]!r}", _with_header(whole, {345: name.ljust(100, b"\0")})
    for _ in range(300):
        place, count = rng.randrange(500), rng.choice([1, 1, 2, 8])
        yield f"noise in a header at {place}", _with_header(whole, {place: rng.randbytes(count)})
    for link in (
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.GNUTYPE_SPARSE,
    ):
        buffer = io.BytesIO(whole[:-1024].rstrip(b"\0") if whole.endswith(bytes(1024)) else whole)
        entry = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        entry.type, entry.linkname = link, "/etc/passwd"
        yield f"member of type {link!r} before the rest", entry.tobuf(tarfile.USTAR_FORMAT) + buffer.getvalue()
    yield "a file twice", tar(records())[: 512 + 3584] + whole
    yield "many members", tar({f"{number}": b"" for number in range(2000)})
    yield "a bomb", tar({"data_batch_1.bin": bytes(31 * MEGABYTE)})
    yield "empty", b""
    yield "only an end", bytes(1024)


def _with_header(archive: bytes, fields: dict[int, bytes]) -> bytes:
    header = bytearray(archive[:512])
    for place, value in fields.items():
        header[place : place + len(value)] = value
    header = header[:512]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + archive[512:]


# --- all of it --------------------------------------------------------------------------------------------------------


def _by_hand(reader: Reader, rng: random.Random) -> Iterator[Case]:
    if reader.kind == "npz":
        yield from npz_by_hand(reader)
    if reader.kind == "safetensors":
        yield from safetensors_by_hand(reader)
    if reader.kind in ("idx", "idx.gz"):
        yield from idx_by_hand(rng)
    if reader.kind in ("tar", "tar.gz"):
        yield from tar_by_hand(reader.kind == "tar.gz", rng)


def by_structure(reader: Reader, count: int, rng: random.Random) -> Iterator[Case]:
    """Those made by hand, of which few in a short search, and `count` at random where a file has arrays or JSON."""
    yield from (case for case in _by_hand(reader, rng) if rng.random() < count / 100)
    if reader.pieces is None or reader.build is None:
        return
    arrays, tree = reader.pieces()
    if tree is not None:
        for text in TEXTS:
            yield f"text {text[:20]!r}", reader.build(arrays, text)
        for version in VERSIONS:
            yield f"version {version!r}", reader.build(arrays, json.dumps({**tree, "format": version}))
    for _ in range(count):
        arrays, tree = reader.pieces()
        if tree is None or (arrays and rng.random() < 0.3):
            label, arrays = changed_arrays(arrays, rng)
        else:
            label, tree = changed_tree(tree, rng)
        try:
            yield label, reader.build(arrays, dumped(tree, rng))
        except Exception:  # what the writer does not take cannot come from it
            continue
