"""Finishes what cbindgen wrote: the contract page on top, the example in it, the version, no Rust sections."""

import re
import sys
from pathlib import Path

FFI = Path(__file__).resolve().parent


def example() -> str:
    """The server loop of tests/c/example.c, which is compiled and run, so that it cannot rot here."""
    text = (FFI.parent / "tests/c/example.c").read_text()
    loop = re.search(r"/\* begin \*/\n(.*?)/\* end \*/", text, re.S)
    assert loop, "tests/c/example.c has no example"
    # A comment cannot stand in a comment.
    lines = re.sub(r"/\* (.*?) \*/", r"// \1", loop[1]).rstrip().split("\n")
    return "\n".join(" *   " + line if line else " *" for line in lines)


def contract() -> str:
    lines = (FFI / "contract.txt").read_text().rstrip().split("\n")
    page = "/* " + "\n".join(" * " + line if line else " *" for line in lines)[3:] + "\n */\n"
    return page.replace(" * @EXAMPLE@", example())


def comment(block: re.Match[str]) -> str:
    """One comment of cbindgen's in the style of the page; Rust's own safety section says less than the page."""
    text = re.split(r"\n *# Safety", block[2])[0].rstrip()
    lines = [re.sub(r"^ {0,3}(?=[^ ])", "", line, count=1) if block[1] else line.removeprefix(" ") for line in text.split("\n")]
    if len(lines) == 1:
        return f"{block[1]}/* {lines[0]} */"
    rest = [f"{block[1]} * {line}".rstrip() for line in lines[1:]]
    return "\n".join([f"{block[1]}/* {lines[0]}", *rest]) + " */"


def main() -> None:
    header = Path(sys.argv[1]).read_text()
    header = re.sub(r"^( *)/\*\n(.*?)\n *\*/", comment, header, flags=re.S | re.M)
    # A list of numbers reads as one.
    header = re.sub(r"(\n#define WSAUTH_\w+ \d+)\n(?=\n/\*[^\n]*\*/\n#define)", r"\1", header)
    header = re.sub(r"\n{3,}", "\n\n", header).replace("\n/* The version of this header", "\n\n/* The version of this header")
    cargo = (FFI.parent / "Cargo.toml").read_text()
    version = re.search(r'^version = "(\d+)\.(\d+)\.(\d+)"', cargo, re.M)
    assert version
    for name, number in zip(("@MAJOR@", "@MINOR@", "@PATCH@"), version.groups(), strict=True):
        header = header.replace(name, number)
    assert "# Safety" not in header and "@" not in header.replace("@param", "").replace("@return", "")
    sys.stdout.write(contract() + "\n" + header.lstrip())


main()
