"""The targets: what is fuzzed, and what inputs it begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.fuzz import archives, caches, frames, headers, labels, recipes


@dataclass(frozen=True)
class Target:
    """One way into the program."""

    name: str
    run: Callable[[bytes], None]
    """raises whatever should not be raised"""
    seeds: Callable[[], Iterator[bytes]]
    longest: int
    """bytes of an input"""
    runs: int
    """of 2000: those that are quick have the most"""
    time: int
    """of 100: those that are slow have the most"""


TARGETS = {
    target.name: target
    for target in (
        Target("header-bytes", headers.header_bytes, headers.whole_files, 8192, 30, 12),
        Target("header-elements", headers.header_elements, headers.of_each_base, 256, 150, 26),
        Target("archives", archives.archive_bytes, archives.seeds, 4096, 250, 6),
        Target("fragments", frames.fragments_found, frames.fragment_seeds, 256, 300, 8),
        Target("codestreams", frames.codestream_headers, frames.codestream_seeds, 1024, 550, 6),
        Target("decoders", frames.codestreams_decoded, frames.coded_seeds, 1024, 300, 8),
        Target("rle", frames.rle_unpacked, frames.rle_seeds, 256, 350, 4),
        Target("chunks", frames.chunks_made, frames.chunk_seeds, 256, 10, 15),
        Target("where", recipes.where_text, recipes.where_seeds, 256, 100, 2),
        Target("where-words", recipes.where_words, recipes.word_seeds, 64, 50, 2),
        Target("recipe-text", recipes.toml_text, recipes.toml_seeds, 2048, 40, 2),
        Target("recipe-keys", recipes.toml_keys, recipes.key_seeds, 64, 60, 2),
        Target("labels", labels.labels_joined, labels.seeds, 2048, 50, 2),
        Target("plan-state", caches.state_read, caches.seeds, 128, 4, 3),
        Target("cache-root", caches.root_signed, caches.seeds, 128, 3, 3),
        Target("cache-tables", caches.tables_signed, caches.seeds, 128, 2, 3),
        Target("cache-shards", caches.shard_bytes, caches.seeds, 128, 1, 2),
    )
}
