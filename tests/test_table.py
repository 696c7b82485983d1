"""Tables and texts for a terminal: nothing is broken, whatever the width, and nothing acts on the terminal."""

from __future__ import annotations

import io
import itertools
import os
import pty
import re
import subprocess
import sys

import pytest

from tinytorch import cli
from tinytorch import progress as module
from tinytorch.progress import Progress
from tinytorch.table import Table, console, plain, width, wrapped

CELLS = ("1989 MLP digits: MLP", "strict:device1", "2.3080 -> 0.4893: 78.8%", "1,234,567.0001", "[bold]x[/] [v2]")


def table(rows=3):
    found = Table(
        "milestone", "device", "loss drop", "updates", "note", title="Do they learn?", caption="3 of 3 passed"
    )
    for _ in range(rows):
        found.add_row(*CELLS, style="red")
    return found


@pytest.mark.parametrize("columns", [30, 40, 60, 80, 120, 1000])
def test_no_word_or_number_is_broken_or_lost(columns):
    lines = table().lines(columns)
    assert all(len(line) <= columns for line in lines)
    words = " ".join(lines).split()
    for word in " ".join(CELLS).split():
        assert words.count(word) >= 3, word


@pytest.mark.parametrize("columns", [30, 40, 80, 120])
def test_rich_prints_the_same(columns):
    out = io.StringIO()
    from rich.console import Console

    Console(file=out, width=columns, color_system=None).print(table())
    assert [line.rstrip() for line in out.getvalue().splitlines()] == table().lines(columns)


def test_a_word_that_is_too_long_for_the_width_is_not_broken_either():
    found = Table("name")
    found.add_row("x" * 50 + " y")
    assert "  " + "x" * 50 in found.lines(40)
    out = io.StringIO()
    console(out, 40).print(found, soft_wrap=True)
    assert "x" * 50 in out.getvalue()


def test_columns_are_aligned_and_wide_characters_take_two():
    found = Table("name", "n", right=("n",))
    found.add_row("網", 1)
    found.add_row("e\u0301", 100)
    found.add_row("abc")
    assert found.lines(80) == ["name    n", "---------", "網      1", "e\u0301     100", "abc"]


def test_a_table_without_rows():
    assert Table("a", "b").lines(80) == ["a  b", "----"]
    assert Table("a", "b").lines(1) == []


def test_text_is_wrapped_at_words():
    assert wrapped("one two three", 7, "  ") == ["one two", "  three"]
    assert wrapped("", 7) == [""]
    assert wrapped("a  b", 10) == ["a  b"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb\x9bc", r"a\x1b[31mb\x9bc"),
        ("a\r\n\tb\x00\x7f", r"a\r\n\tb\x00\x7f"),
        ("\u202etxt\u200b", r"\u202etxt\u200b"),
        ("\ud800", r"\ud800"),
        ("é 網 [/] [v2]", "é 網 [/] [v2]"),
    ],
)
def test_what_a_terminal_would_obey_is_spelled(text, shown):
    assert plain(text, "utf-8") == shown
    assert plain(plain(text, "utf-8"), "utf-8") == shown
    plain(text, "ascii").encode("ascii")


def test_the_width_is_that_of_the_variable_or_what_is_given(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert width(120) == console(io.StringIO()).width == 40
    monkeypatch.delenv("COLUMNS")
    assert width(120) == 120
    assert console(io.StringIO(), 77).width == 77


# Progress -------------------------------------------------------------------------------------------------------------

PROGRAM = """
from tinytorch import progress
progress.PATIENCE = progress.OFTEN = 0.0
with progress.Progress({settings}) as p:
    p.say("first \\x1b[31m and long" + " x" * 100)
    p.say("second")
print("end")
"""


def on_terminal(settings):
    main, end = pty.openpty()
    env = {**os.environ, "COLUMNS": "40"}
    subprocess.run(
        [sys.executable, "-c", PROGRAM.format(settings=settings)], stderr=end, stdout=end, env=env, check=True
    )
    os.close(end)
    out = b""
    try:
        while part := os.read(main, 4096):
            out += part
    except OSError:  # Linux says so at the end
        pass
    os.close(main)
    return out.decode()


def test_on_a_terminal_one_line_is_rewritten_and_gone():
    out = on_terminal("")
    assert "\x1b" not in out
    lines = out.rstrip().split("\r")
    assert [line.split(",")[0].strip() for line in lines if line.strip()][-2:] == ["second", "end"]
    assert all(len(line) < 40 for line in lines)
    assert re.search(r"\r {8,}\rend", out.replace("\r\n", "\n"))
    assert on_terminal("on=False").strip() == "end"


def test_elsewhere_a_line_comes_now_and_then_if_it_is_wanted():
    for settings, said in (("", ""), ("always=True", "first \\x1b[31m and long"), ("always=True, on=False", "")):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(settings=settings)], capture_output=True, text=True, check=True
        )
        assert done.stdout == "end\n"
        assert done.stderr.startswith(said)
        assert "\r" not in done.stderr


def test_what_is_quick_says_nothing_and_what_is_long_says_less_and_less(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    with Progress(always=True) as progress:
        for second in range(1000):
            clock[0] = float(second)
            progress.say(f"at {second}")
    said = [int(line.split()[1].strip(",")) for line in capsys.readouterr().err.splitlines()]
    assert said[:7] == [1, 2, 4, 8, 16, 32, 64]
    assert {b - a for a, b in itertools.pairwise(said[6:])} == {60}


# Commands -------------------------------------------------------------------------------------------------------------

COMMANDS = {
    "devices": ["devices"],
    "doctor": ["doctor", "--device", "strict:device1", "--op", "exp"],
    "compare": ["compare", "xor", "--devices", "cpu,cpu", "--updates", "2"],
    "milestones": ["milestones", "perceptron", "--gates"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_break_no_word_at_40_and_80_columns(name, capsys, monkeypatch, strict):
    if name == "doctor":
        strict("device1")

    def words(columns):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert cli.main(COMMANDS[name]) == 0
        out = capsys.readouterr().out
        table = out[out.index("Do they learn?") :] if name == "milestones" else out  # below the bars
        tables = table.split("\nbool, ")[0].split(" on cpu: ")[0].split("\n1957 perceptron on")[0]  # and no sentences
        assert all(len(line) <= columns or " " not in line.strip() for line in tables.splitlines()[:-1])
        return {word for word in re.split(r"\s+", table) if not re.fullmatch(r"-+|[\d.]+", word)}

    wide = words(1000)
    for columns in (40, 80):
        labels = {word for word in words(columns) - wide if word.endswith(":") and word[:-1] in wide}
        assert words(columns) - wide - labels == set()
