"""Prepares clang-tidy's run for tools/lint: writes BUILD/lint/compile_commands.json, prints the sources to look at.

usage: lint_database.py BUILD [--all]

The commands are those of BUILD/compile_commands.json without g++'s precompiled header, which clang cannot read. Without
--all, sources that include libtorch, directly or through our headers, are left out: they cost 30 s each.
"""

import json
import pathlib
import re
import subprocess
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
LIBTORCH = re.compile(r"(ATen|c10|torch)/")
PRECOMPILED_HEADER = re.compile(r"-Winvalid-pch|-include \S*cmake_pch\.hxx")
OUR_INCLUDE_FOLDERS = [pathlib.Path("src"), pathlib.Path("kernels/include")]


def includes_libtorch(path, seen):
    """Whether a file of ours includes a header of libtorch, directly or through our headers."""
    if path in seen:
        return False
    seen.add(path)
    for _, name in INCLUDE.findall(path.read_text()):
        if LIBTORCH.match(name):
            return True
        for folder in [path.parent, *OUR_INCLUDE_FOLDERS]:
            if (folder / name).is_file() and includes_libtorch(folder / name, seen):
                return True
    return False


def main(build, everything):
    listing = subprocess.run(["git", "ls-files", "src", "kernels"], text=True, capture_output=True, check=True)
    tracked = {path for path in listing.stdout.splitlines() if path.endswith(".cpp")}
    here = pathlib.Path.cwd()
    database = []
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["file"])
        if not path.is_relative_to(here) or str(path.relative_to(here)) not in tracked:
            continue
        path = path.relative_to(here)
        uses_libtorch = includes_libtorch(path, set())
        if uses_libtorch and not everything:
            continue
        header = f"-include {here}/src/torch_pch.h" if uses_libtorch else ""
        entry["command"] = PRECOMPILED_HEADER.sub(header, entry["command"])
        database.append(entry)
        print(path)
    output = build / "lint" / "compile_commands.json"
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(database, indent=1))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), "--all" in sys.argv[2:])
