"""Bugs that were put in on purpose: each is applied to a copy, and its named test must find it.

    python -m tests.bugs              all of them
    python -m tests.bugs no_fence     one

A test that does not fail on its bug is blind. Exits with 1 when one is, or when a patch does not
fit the code any more: then it is to be written anew.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
_COPIED = ("src", "generated", "tests", "bench", "examples", "docs", "pyproject.toml", "README.md")
_FAILED = 1  # as pytest says that a test has failed, and not that it could not be run


def bugs() -> list[Path]:
    """Return all patches."""
    return sorted(HERE.glob("*.patch"))


def named_test(patch: Path) -> str:
    """Return the test that a patch names in its second line."""
    return patch.read_text().splitlines()[1].removeprefix("test: ")


def applied(patch: Path, folder: Path) -> str:
    """Apply *patch* in *folder*; returns what is wrong, empty when it fits."""
    command = ["git", "apply", "--unidiff-zero", str(patch)]
    # Outside of a repository, or it would look for the files of that.
    environ = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
    return done.stderr.strip()


def verdict(patch: Path) -> str:
    """Return why the bug was not found, empty when it was."""
    with tempfile.TemporaryDirectory(prefix="upshot-bug-") as name:
        folder = Path(name)
        for part in _COPIED:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / part)
        if fault := applied(patch, folder):
            return f"the patch does not fit: {fault}"
        path = os.pathsep.join(str(folder / part) for part in ("", "src", "generated"))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", named_test(patch)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        if done.returncode == _FAILED:
            return ""
        return f"pytest ended with {done.returncode}: {done.stdout[-300:]}"


def main() -> int:
    """Try the bugs that are asked for."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [patch.stem for patch in bugs()]
    parser.add_argument("names", nargs="*", metavar="NAME", help="[all]")
    given = parser.parse_args()
    if unknown := set(given.names) - set(known):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    missed = 0
    for patch in bugs():
        if given.names and patch.stem not in given.names:
            continue
        began_s = time.perf_counter()
        fault = verdict(patch)
        missed += bool(fault)
        took_s = time.perf_counter() - began_s
        said = f"NOT FOUND: {fault}" if fault else "found"
        print(f"{patch.stem:<36} {took_s:5.1f} s  {said}\n    by {named_test(patch)}", flush=True)
    print(f"{missed} of {len(given.names or known)} were not found.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
