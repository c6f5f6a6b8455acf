"""The targets: what is fuzzed, and what inputs it begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.fuzz import frames, headers, recipes


@dataclass(frozen=True)
class Target:
    """One way into the program."""

    name: str
    run: Callable[[bytes], None]
    """raises whatever should not be raised"""
    seeds: Callable[[], Iterator[bytes]]
    longest: int
    """bytes of an input"""
    share: int
    """of the runs or the time, in percent"""


TARGETS = {
    target.name: target
    for target in (
        Target("header-bytes", headers.header_bytes, headers.whole_files, 8192, 10),
        Target("header-elements", headers.header_elements, headers.of_each_base, 256, 25),
        Target("fragments", frames.fragments_found, frames.fragment_seeds, 256, 10),
        Target("codestreams", frames.codestream_headers, frames.codestream_seeds, 1024, 10),
        Target("decoders", frames.codestreams_decoded, frames.coded_seeds, 1024, 10),
        Target("rle", frames.rle_unpacked, frames.rle_seeds, 256, 5),
        Target("chunks", frames.chunks_made, frames.chunk_seeds, 256, 15),
        Target("where", recipes.where_text, recipes.where_seeds, 256, 2),
        Target("where-words", recipes.where_words, recipes.word_seeds, 64, 3),
        Target("recipe-text", recipes.toml_text, recipes.toml_seeds, 2048, 2),
        Target("recipe-keys", recipes.toml_keys, recipes.key_seeds, 64, 3),
    )
}
