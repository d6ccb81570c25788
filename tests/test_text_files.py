"""Text files are UTF-8, whatever the machine's locale is."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def left_to_the_locale(source: str) -> list[str]:
    """Calls in a source that read or write text without naming its encoding."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="read_text" | "write_text" | "open" | "fdopen")
                | ast.Name("open")
            ):
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                words = {n.value for n in given if isinstance(n, ast.Constant)}
                binary = words & {"rb", "wb", "xb", "ab", "r+b", "w+b"}
                if "utf-8" not in words and not binary:
                    found.append(ast.unparse(node))
    return [call for call in found if not call.startswith(("Image.", "os.open("))]


@pytest.mark.parametrize("package", ["nat_env", "agents", "pretrain", "eval", "notebooks"])
def test_every_text_file_names_its_encoding(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {str(f): calls for f in files if (calls := left_to_the_locale(f.read_text("utf-8")))}
    assert not wrong


@pytest.mark.parametrize(
    "call",
    [
        "(folder / 'a').read_text()",
        "path.write_text(text)",
        "open(path)",
        "path.open('w', newline='')",
        "os.fdopen(handle, mode='w')",
        "io.open(path, 'r')",
    ],
)
def test_a_planted_call_is_caught(call):
    assert left_to_the_locale(f"def load():\n    with {call}:\n        pass") == [call]


@pytest.mark.parametrize(
    "call",
    [
        "path.read_text(encoding='utf-8')",
        "path.write_text(text, 'utf-8')",
        "path.open('rb')",
        "open(path, mode='xb')",
        "Image.open(path)",
        "write_text(path, text)",
        "safe_open(path, framework='pt')",
    ],
)
def test_an_allowed_call_is_not_caught(call):
    assert left_to_the_locale(call) == []


def test_a_report_is_written_under_any_locale(tmp_path):
    """The plus-minus of our tables, where Python would write ASCII."""
    code = (
        "import sys, pathlib; from nat_env.storage.files import write_text; "
        "write_text(pathlib.Path(sys.argv[1]), chr(177))"
    )
    environment = os.environ | {"PYTHONUTF8": "0", "LC_ALL": "C"}
    path = tmp_path / "report.md"
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, env=environment, check=True)
    assert path.read_bytes() == "±".encode()
