"""The compiled loops under AddressSanitizer and UndefinedBehaviorSanitizer, by their tests.

Run: python -m tests.pixels.sanitized. Needs a C compiler with both; a finding ends it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).parents[2]
_FLAGS = ("-O1", "-g", "-ffp-contract=off", "-fno-omit-frame-pointer", "-shared", "-fPIC",
          "-fsanitize=address,undefined", "-fno-sanitize-recover=all")  # fmt: skip
_SOURCES = ("pixels/_kernel.c", "headers/_scan.c")
_RUN = """
import importlib.util, sys
import numpy
spec = importlib.util.spec_from_file_location("dicom2cache.pixels._kernel", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
sys.modules[spec.name] = module
from dicom2cache.pixels import kernel
assert kernel.compiled is module
import pytest
here = "not cache and not process"  # others would have loops of their own
files = ["tests/pixels/test_kernel.py", "tests/frames/test_plain.py",
         "tests/headers/test_split.py"]
sys.exit(pytest.main(["-q", "-x", *files, "-k", here]))
"""


def main() -> int:
    """Compile, and run the tests with it."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / f"_kernel{sysconfig.get_config_var('EXT_SUFFIX')}"
        sources = [str(HERE / "dicom2cache" / name) for name in _SOURCES]
        include = sysconfig.get_paths()["include"]
        command = [compiler, *_FLAGS, f"-I{include}", *sources, "-o", str(made)]
        subprocess.run(command, check=True)
        named = subprocess.run(
            [compiler, "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
        )
        env = {
            **os.environ,
            "LD_PRELOAD": named.stdout.strip(),
            "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",  # the interpreter's own leaks
            "PYTHONMALLOC": "malloc",  # each allocation has a fence
        }
        code = [sys.executable, "-c", _RUN, str(made)]
        return subprocess.run(code, cwd=HERE, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
