"""Rules of CONTRIBUTING.md that a machine can check. Prints what breaks them; exit code 1 if anything does."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINES_MAX = 600
# Crates that a crate may name: those below it. A crate that is not listed is free (bench, tests).
BELOW = {
    "types": [],
    "format": ["types", "erasure"],
    "core": ["types", "format", "erasure"],
    "env": ["types", "format"],
    "meta": ["types", "format", "env"],
    "gateway": ["types", "env", "erasure"],
    "tier": ["types"],
    "erasure": [],
    "io": [],
}
SOFT = re.compile(r"\b(todo!|unimplemented!|dbg!)\s*\(|\b(FIXME|XXX)\b")
# A module that opens up unsafe code must be in ARCHITECTURE.md's list.
UNSAFE = re.compile(r"^\s*#!?\[(?:allow|expect)\((?:[^)]*,\s*)?unsafe_code")


def tracked(pattern):
    found = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", pattern], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in found.stdout.splitlines() if (ROOT / line).exists()]


def main():
    broken = []
    architecture = (ROOT / "ARCHITECTURE.md").read_text()
    for path in tracked("*.rs"):
        name = str(path.relative_to(ROOT))
        lines = path.read_text().splitlines()
        if len(lines) > LINES_MAX:
            broken.append(f"{name}: {len(lines)} lines, more than {LINES_MAX}: two duties?")
        for number, line in enumerate(lines, 1):
            if SOFT.search(line):
                broken.append(f"{name}:{number}: {line.strip()}")
            if UNSAFE.search(line) and name not in architecture:
                broken.append(f"{name}:{number}: allows unsafe code and is not listed in ARCHITECTURE.md")
    for crate, below in BELOW.items():
        folder = ROOT / crate if (ROOT / crate / "Cargo.toml").exists() else ROOT / "node" / crate
        manifest = (folder / "Cargo.toml").read_text().split("[dev-dependencies]")[0]
        for other in re.findall(r"^strongroom-(\w+)", manifest, re.MULTILINE):
            if other not in below:
                broken.append(f"{crate} depends on {other}, which is not below it")
    allowed = {"node", "erasure", "io", "bench", "tests", "image", "Cargo.toml", "Cargo.lock", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "LICENSE"}
    top = {str(path.relative_to(ROOT)).split("/")[0] for path in tracked("*")}
    for name in sorted(top):
        if name not in allowed and not name.startswith("."):
            broken.append(f"{name}: does not belong at the top")
    for line in broken:
        print(line)
    return 1 if broken else 0


sys.exit(main())
