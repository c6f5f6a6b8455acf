"""Two checkouts, the same sources: are the caches the same bytes?

Run: python -m tests.support.identical OTHER [FOLDER...]. Builds caches of pydicom's examples, and
of all files that pydicom and pydicom-data bring along (or of FOLDER...), by four recipes with this
checkout and with OTHER, compares every file, save for the version of dicom2cache in it, and says
which rows and columns of frames/ differ. Both use this interpreter and its libraries. Exit status 1
if anything differs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from tests.support.caches import tree
from tests.support.dicom_files import DATA_STORE, WHEEL

HERE = Path(__file__).parents[2]
RECIPES = {
    "modality": [],
    "mixed": ["--recipe", "mixed", "--codec", "zstd"],
    "lightlytrain": ["--recipe", "lightlytrain"],
    "stored": [
        "--intensity",
        "stored",
        "--shard-mib",
        "1",
        "--size",
        "100,90",
        "--dtype",
        "float32",
    ],
}


def build(checkout: Path, sources: list[Path], cache: Path, flags: list[str]) -> int:
    """`dicom2cache build` by the code in `checkout`; its exit status."""
    command = [sys.executable, "-m", "dicom2cache.cli", "build", *map(str, sources), str(cache)]
    env = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [*command, *flags], cwd=checkout, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode == 2:
        print(done.stderr)
    return done.returncode


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two caches, a line each."""
    first, second = (tree(c) | {"zarr.json": _root(c)} for c in (one, other))
    found = [f"only in one: {name}" for name in sorted(first.keys() ^ second.keys())]
    both = sorted(name for name in first.keys() & second.keys() if first[name] != second[name])
    for name in both:
        found.append(f"differs: {name}")
        if name.endswith(".parquet"):
            found += [f"  {line}" for line in _rows(one / name, other / name)]
    return found


def _root(cache: Path) -> str:
    """The root metadata without the version that made the cache, and without digests of it."""
    document = json.loads((cache / "zarr.json").read_bytes())
    about = document["attributes"]["dicom2cache"]
    del about["software"]["dicom2cache"], about["sha256"]
    return json.dumps(document)


def _rows(one: Path, other: Path) -> list[str]:
    first, second = pq.read_table(one), pq.read_table(other)
    if first.num_rows != second.num_rows:
        return [f"{first.num_rows} and {second.num_rows} rows"]
    columns = set(first.column_names) ^ set(second.column_names)
    found = [f"column only in one: {name}" for name in sorted(columns)]
    for name in first.column_names:
        if name in columns:
            continue
        pairs = zip(first[name].to_pylist(), second[name].to_pylist(), strict=True)
        rows = [i for i, (a, b) in enumerate(pairs) if repr(a) != repr(b)]
        if rows:
            k = rows[0]
            where = first["path"][k] if "path" in first.column_names else f"row {k}"
            said = f"{where}: {first[name][k]} and {second[name][k]}"
            found.append(f"{name}: {len(rows)} rows, such as {said}")
    return found


def main() -> int:
    """Build, compare, print; 1 if anything differs."""
    other = Path(sys.argv[1]).resolve()
    named = [Path(p).resolve() for p in sys.argv[2:]]
    sources = named or [p for p in (WHEEL, DATA_STORE) if p.exists()]
    status = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CONFIG_HOME"] = folder  # one patient key for both
        for name, flags in RECIPES.items():
            caches = [Path(folder) / side / name for side in ("here", "there")]
            for checkout, cache in zip((HERE, other), caches, strict=True):
                cache.parent.mkdir(exist_ok=True)
                build(checkout, sources, cache, flags)
            found = differences(*caches)
            status |= bool(found)
            print(f"{name}: {len(tree(caches[0]))} files, {'; '.join(found) or 'identical'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
