#!/usr/bin/env python3
"""Empties the CUDA kernels of a library that one kind of GPU does not need, so that it packs small.

    kernels.py LIBRARY --keep 90      keeps what GPUs of sm_90 run; `all` keeps everything

The section .nv_fatbin of a library holds kernels once per architecture. CUDA chooses among them by their
headers, so the bodies of those that it will not choose may be zeros: the file keeps its layout and its
size, and zeros compress to nothing. A kernel that the wanted architecture lacks is left whole.
"""

import argparse
import mmap
import struct
from collections.abc import Iterator

FATBIN_MAGIC = 0xBA55ED50
SECTION_HEADER = "<IIQQQQ"
# Magic, version, size of the header, size of what follows.
FATBIN_HEADER = "<IHHQ"
# Kind, version, size of the header, size of the body; the architecture stands at byte 28.
ENTRY_HEADER = "<HHIQ"
ARCHITECTURE = 28


def fatbin_section(data: mmap.mmap) -> tuple[int, int]:
    """Begin and end of .nv_fatbin in a 64-bit ELF file."""
    table, = struct.unpack_from("<Q", data, 0x28)
    size, count, names = struct.unpack_from("<HHH", data, 0x3A)
    sections = [struct.unpack_from(SECTION_HEADER, data, table + i * size) for i in range(count)]
    for name, _, _, _, offset, length in sections:
        start = sections[names][4] + name
        if data[start:start + 11] == b".nv_fatbin\0":
            return offset, offset + length
    raise SystemExit("the library holds no CUDA kernels")


def fatbins(data: mmap.mmap) -> Iterator[list[tuple[int, int, int]]]:
    """The entries of each fatbin: begin and size of the body, architecture."""
    at, end = fatbin_section(data)
    while at < end:
        magic, _, header, size = struct.unpack_from(FATBIN_HEADER, data, at)
        if magic != FATBIN_MAGIC:
            at += 8
            continue
        entries, entry = [], at + header
        at = entry + size
        while entry < at:
            _, _, own, body = struct.unpack_from(ENTRY_HEADER, data, entry)
            architecture, = struct.unpack_from("<I", data, entry + ARCHITECTURE)
            entries.append((entry + own, body, architecture))
            entry += own + body
        yield entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library")
    parser.add_argument("--keep", default="all", metavar="ARCH")
    arguments = parser.parse_args()
    if arguments.keep == "all":
        return
    wanted, kept, emptied = int(arguments.keep), 0, 0
    with open(arguments.library, "r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        for entries in fatbins(data):
            has_wanted = any(architecture == wanted for _, _, architecture in entries)
            for begin, size, architecture in entries:
                if architecture == wanted or not has_wanted:
                    kept += size
                else:
                    data[begin:begin + size] = bytes(size)
                    emptied += size
    print(f"kernels: {kept / 1e6:.0f} MB for sm_{wanted} kept, {emptied / 1e6:.0f} MB of others emptied")


if __name__ == "__main__":
    main()
