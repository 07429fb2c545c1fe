#!/usr/bin/env python3
"""Runs every test of the repository and adds the counts up. The last line is `N passed, N failed`."""

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CARGO = re.compile(r"^test result: \S+ (\d+) passed; (\d+) failed; (\d+) ignored")
OWN = re.compile(r"^(\d+) passed, (\d+) failed$")
PYTEST = re.compile(r"(\d+) (passed|failed|errors?|skipped)")


LWS_TESTS = "examples/c-libwebsockets/tests"


@dataclass
class Count:
    passed: int = 0
    failed: int = 0


def run(title: str, command: list[str]) -> Count:
    """Runs one suite, showing what it prints, and reads its counts. A suite that breaks or is empty is one failure."""
    print(f"\n=== {title}", flush=True)
    begun = time.monotonic()
    count = Count()
    try:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        print(f"=== {title}: {error}", flush=True)
        return Count(failed=1)
    assert process.stdout is not None
    last = ""
    counts_itself = "pytest" in command
    for line in process.stdout:
        # Passing tests are counted, not listed.
        if not re.match(r"^test .* \.\.\. ok$|^running \d+ tests?$|^\s*$", line):
            print(line, end="", flush=True)
        if found := CARGO.match(line):
            counts_itself = True
            count.passed += int(found[1])
            # A test that is left out hides a missing part.
            count.failed += int(found[2]) + int(found[3])
        if found := OWN.match(line):
            counts_itself = True
            count.passed += int(found[1])
            count.failed += int(found[2])
        last = line.strip() or last
    code = process.wait()
    if "pytest" in command:
        words = {word.rstrip("s"): int(number) for number, word in PYTEST.findall(last)}
        count.passed += words.get("passed", 0)
        count.failed += words.get("failed", 0) + words.get("error", 0) + words.get("skipped", 0)
    elif not counts_itself:
        count.passed += code == 0
    if count.failed == 0 and (code != 0 or count.passed == 0):
        count.failed += 1
    print(f"=== {title}: {count.passed} passed, {count.failed} failed, {time.monotonic() - begun:.0f} s", flush=True)
    return count


def main() -> int:
    python = str(ROOT / ".venv/bin/python")
    suites = [
        run("Rust: units, vectors, properties, servers", ["cargo", "test", "--workspace", "--no-fail-fast"]),
        run("loom: the connection record", ["admin/loom.sh"]),
        run("Python: build", ["admin/python.sh"]),
        run("Python: tests", [python, "-m", "pytest", "-p", "no:cacheprovider", "python/tests"]),
        run("end to end: real providers", [python, "-m", "pytest", "-p", "no:cacheprovider", "-q", "tests/e2e"]),
        run("Python: stubs", [python, "-m", "mypy.stubtest", "wsauth"]),
        run("C: Debian's packages", ["admin/packages.sh"]),
        run("C: the ABI, misuse, threads, fork, vectors", ["admin/ctest.sh"]),
        run("the demo's story on all servers", ["env", "WSAUTH_REQUIRE=all", "admin/demo.sh"]),
        run("C: the libwebsockets server", [python, "-m", "pytest", "-p", "no:cacheprovider", LWS_TESTS]),
        run("C and C++: installed, and consumers", ["admin/consumers.sh"]),
        run("C++: wsauth.hpp", ["admin/cpptest.sh"]),
    ]
    passed, failed = sum(suite.passed for suite in suites), sum(suite.failed for suite in suites)
    print(f"\n{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
