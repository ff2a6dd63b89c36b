"""docs/errors.md has every error of the code, with its exit code, and none that is not there.

What an error says first is its rule (streamfuse/errors.py). Rules are looked for where errors are made: in
the call, in a variable `rule` of the same function, in a table that is gone through with one, or handed to a
function with a parameter `rule`. What the code puts into a rule is three dots here and on the page.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "errors.md").read_text()
CLASSES = dict(re.findall(r"^\| `(\w+)` \| (\d) \|", PAGE, re.MULTILINE))
ROWS = re.findall(r"^\| (?!`\w+` \|)(.+?) \| (\d) \| .+ \|$", PAGE, re.MULTILINE)
TREES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text())
    for room in ("streamfuse", "services")
    for path in (ROOT / room).rglob("*.py")
    if not path.is_relative_to(ROOT / "streamfuse" / "services")  # a link to the other
}
ANOTHERS = {
    # What an error said in another process is told on.
    "streamfuse/cli/ctl.py": {"reply.said"},
    "streamfuse/cli/device.py": {"(ran.stderr.strip() or 'CUDA must start').splitlines()[-1]"},
    "streamfuse/cli/fleet.py": {"notice.text", "result['error']"},
    "streamfuse/cli/measure.py": {"notice.text"},
    "streamfuse/supervise/supervisor.py": {"reason"},
    "services/reader.py": {"error.rule"},
    "services/recorded_decode.py": {"error.rule"},
    # Pydantic's words about a key, in ours.
    "streamfuse/settings.py": {"_rule(path, first['msg'])"},
}


def exit_codes() -> dict[str, int]:
    """The classes of our errors, and with which code each ends the program."""
    codes = {"StreamfuseError": 1}
    nodes = [n for tree in TREES.values() for n in tree.body if isinstance(n, ast.ClassDef)]
    while new := [n for n in nodes if n.name not in codes and any(_name(b) in codes for b in n.bases)]:
        for node in new:
            own = re.search(r"^ {4}exit_code = (\d)$", ast.unparse(node), re.MULTILINE)
            codes[node.name] = int(own[1]) if own else codes[_name(node.bases[0])]
    return codes


def made(function: ast.AST) -> list[ast.Call]:
    """Calls that make one of our errors, from top to bottom."""
    calls = [n for n in ast.walk(function) if isinstance(n, ast.Call) and n.args and _name(n.func) in CODES]
    return sorted(calls, key=lambda call: call.lineno)


def words(node: ast.expr) -> list[str]:
    """A text; an f-string with three dots for what is put in; both of one `if` the other."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values)]
    return words(node.body) + words(node.orelse) if isinstance(node, ast.IfExp) else []


def assigned(tree: ast.Module, function: ast.FunctionDef) -> Iterator[tuple[int, str]]:
    """Line and text of whatever the function's `rule` may be."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            yield from ((node.lineno, text) for value in _at_rule(node.targets[0], node.value)
                        for text in words(value))  # fmt: skip
        elif isinstance(node, ast.For) and isinstance(node.iter, ast.Name):
            for row in _table(tree, node.iter.id):
                yield from ((node.lineno, t) for value in _at_rule(node.target, row) for t in words(value))
    names = [argument.arg for argument in function.args.args]
    if "rule" in names:
        yield from ((function.lineno, t) for value in function.args.defaults for t in words(value))
        for call in (n for other in TREES.values() for n in ast.walk(other) if isinstance(n, ast.Call)):
            handed = call.args[names.index("rule") :] if _name(call.func) == function.name else []
            yield from ((function.lineno, text) for value in handed[:1] for text in words(value))


def rules() -> Iterator[tuple[str, str, str]]:
    """Class, rule and file of every error; a rule that is told on has no words."""
    for file, tree in TREES.items():
        for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
            calls = made(function)
            for call in calls:
                for text in words(call.args[0]):
                    yield _name(call.func), text, file
            named = [call for call in calls if _name(call.args[0]) == "rule"]
            for line, text in assigned(tree, function) if named else ():
                call = next(call for call in named if call.lineno >= line)
                yield _name(call.func), text, file


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _at_rule(target: ast.expr, value: ast.expr) -> list[ast.expr]:
    """The part of `value` that goes to a variable `rule` of the target."""
    if _name(target) == "rule":
        return [value]
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        pairs = zip(target.elts, value.elts, strict=True)
        return [part for one, part in pairs if _name(one) == "rule"]
    return []


def _table(tree: ast.Module, name: str) -> list[ast.expr]:
    for node in tree.body:
        if (
            isinstance(node, ast.AnnAssign)
            and _name(node.target) == name
            and isinstance(node.value, ast.Tuple)
        ):
            return node.value.elts
    return []


CODES = exit_codes()


def plain(cell: str) -> list[str]:
    """The rules of a row."""
    return [rule.replace("\\<", "<") for rule in cell.split("<br>")]


def test_every_error_is_on_the_page_with_its_code_and_no_other() -> None:
    told = {(text, CODES[kind]) for kind, text, _ in rules()}
    assert len(told) > 300
    on_page = [(rule, int(code)) for cell, code in ROWS for rule in plain(cell)]
    assert sorted(told - set(on_page)) == [], "not on the page"
    assert sorted(set(on_page) - told) == [], "not in the code"
    assert len(on_page) == len(set(on_page)), "twice"


def test_every_error_has_words_that_can_be_found() -> None:
    """Or the test above would not see it."""
    for file, tree in TREES.items():
        for call in made(tree):
            rule = call.args[0]
            if not words(rule) and _name(rule) != "rule":
                assert ast.unparse(rule) in ANOTHERS.get(file, set()), f"{file}:{rule.lineno}"
    for file, tree in TREES.items():
        for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
            named = [call for call in made(function) if _name(call.args[0]) == "rule"]
            assert not named or list(assigned(tree, function)), f"{file}:{named[0].lineno}"


def test_every_class_of_errors_is_on_the_page_with_its_code() -> None:
    assert {name: int(code) for name, code in CLASSES.items()} == CODES


def test_every_notice_on_the_page_is_said_by_the_program() -> None:
    table = PAGE.partition("| said | it means |\n|---|---|\n")[2].partition("\n\n")[0]
    notices = re.findall(r"^\| (.+?) \|", table, re.MULTILINE)
    assert len(notices) >= 5
    texts = "\n".join(
        node.value
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    for notice in notices:
        assert all(part.strip() in texts for part in notice.split("…")), notice
