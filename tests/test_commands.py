"""The commands as processes: what they refuse, how they end, and what they write for other programs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import tinytorch
from benchmarks import __main__ as benchmarks
from tinytorch import backends, cli, commands, progress
from tinytorch.milestones import __main__ as milestones
from tinytorch.milestones import perceptron, sabotage, xor
from tinytorch.parity import Difference, examiner


def python(*arguments, cwd=None, **variables):
    env = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")} | variables
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True)


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


# What is refused ----------------------------------------------------------------------------------------------------

REFUSED = [
    (cli.main, [], "the following arguments are required: COMMAND"),
    (cli.main, ["nonsense"], "invalid choice: 'nonsense'"),
    (cli.main, ["devices", "--junit", "/nowhere/at/all.xml"], "there is no folder '/nowhere/at' for"),
    (cli.main, ["devices", "cpu"], "unrecognized arguments: cpu"),
    (cli.main, ["doctor"], "the following arguments are required: --device"),
    (cli.main, ["doctor", "--device"], "argument --device/--devices: expected one argument"),
    (cli.main, ["doctor", "--device", "abacus"], "no family 'abacus'"),
    (cli.main, ["doctor", "--device", "cpu", "--op", "foo"], "the table has no foo"),
    (cli.main, ["compare", "xor"], "the following arguments are required: --device"),
    (cli.main, ["compare", "xor", "--device", "cpu"], "takes two devices or more"),
    (cli.main, ["compare", "xor", "--device", "cpu,cpu", "--seed", "-1"], "--seed: a whole number, 0 or more, not -1"),
    (cli.main, ["compare", "xor", "--device", "cpu,cpu", "--seed", "1.5"], "a whole number, 0 or more, not '1.5'"),
    (cli.main, ["compare", "xor", "--device", "cpu,cpu", "--updates", "0"], "a whole number, 1 or more, not 0"),
    (cli.main, ["compare", "xor", "--device", "cpu,cpu", "--tolerance", "nan"], "a number, 0 or more, not nan"),
    (cli.main, ["compare", "xor", "--device", "cpu,cpu", "--dtype", "int8"], "invalid choice: 'int8'"),
    (cli.main, ["compare", "lenet", "--device", "cpu,cpu"], "no milestone 'lenet'; there are perceptron, xor"),
    (cli.main, ["milestones", "--seed", "-1"], "python -m tinytorch milestones: argument --seed: a whole number"),
    (cli.main, ["sabotage", "nothing"], "python -m tinytorch sabotage: no bug nothing; there are"),
    (milestones.main, ["lenet"], "no chapter lenet; there are perceptron, xor"),
    (milestones.main, ["--device", "abacus"], "no family 'abacus'"),
    (milestones.main, ["--seed", "-1"], "--seed: a whole number, 0 or more, not -1"),
    (milestones.main, ["--seed", "x\x1b[31m\ny"], r"not 'x\x1b[31m\ny'"),
    (milestones.main, ["--write", "."], "'.' cannot be written"),
    (milestones.main, ["--write", "{unmarked}"], "needs <!-- milestones --> and <!-- /milestones -->, once each"),
    (milestones.main, ["--write", "{absent}"], "No such file or directory"),
    (milestones.main, ["--junit", "/nowhere/x.xml"], "there is no folder '/nowhere'"),
    (milestones.main, ["--seeds", "3"], "unrecognized arguments: --seeds"),
    (sabotage.main, ["--healthy", "0"], "--healthy: a whole number, 1 or more, not 0"),
    (sabotage.main, ["--write", "/nowhere/page.md"], "there is no folder '/nowhere'"),
    (sabotage.main, ["--write", "{unmarked}"], "has no table like that of docs/sabotage.md"),
    (benchmarks.main, ["everything"], "no everything; there are ops"),
    (benchmarks.main, ["--rounds", "0"], "--rounds: a whole number, 1 or more, not 0"),
    (benchmarks.main, ["steps", "--workloads", "W1,W9"], "no W9; there are W1"),
    (benchmarks.main, ["steps", "--peers", "caffe"], "no caffe; there are numpy_hand"),
]


@pytest.mark.parametrize(("main", "arguments", "why"), REFUSED, ids=[" ".join(a[1]) or "nothing" for a in REFUSED])
def test_what_cannot_be_done_is_refused_in_one_line_and_before_work(
    main, arguments, why, capsys, monkeypatch, tmp_path
):
    for chapter in (perceptron, xor):
        monkeypatch.setattr(chapter, "train", lambda *a, **k: pytest.fail("it trains"))
    (tmp_path / "unmarked").write_text("no marks")
    places = {name: str(tmp_path / name) for name in ("unmarked", "absent")}
    try:
        status = main([a.format(**places) if a.startswith("{") else a for a in arguments])
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert why in err
    assert err.count("\n") == 1
    assert err.rstrip("\n").isprintable()


@pytest.mark.parametrize("main", [cli.main, milestones.main, sabotage.main, benchmarks.main])
def test_every_command_says_its_version_and_its_exit_status(main, capsys):
    for option, said in (("--version", "tinytorch 0.1.0\n"), ("--help", "interrupted")):
        with pytest.raises(SystemExit) as stop:
            main([option])
        assert stop.value.code == 0
        assert said in capsys.readouterr().out


# Devices ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling", [["--device", "cpu", "--device", "cpu"], ["--device", "cpu, cpu"], ["--devices", "cpu,cpu"]]
)
def test_one_spelling_for_several_devices(spelling, capsys):
    assert cli.main(["compare", "xor", "--updates", "2", *spelling]) == 0
    assert cli.main(["doctor", "--op", "abs", *spelling]) == 0
    assert milestones.parsed(spelling, "m")[1] == [backends.device("cpu")]
    capsys.readouterr()


def test_the_list_of_devices_for_other_programs(capsys, tmp_path):
    path = tmp_path / "devices.xml"
    assert cli.main(["devices", "--json", "--junit", str(path)]) == 0
    found = {d["name"]: d for d in json.loads(capsys.readouterr().out)}
    cpu = found["cpu"]
    assert (cpu["usable"], cpu["default"], cpu["library"], cpu["reason"]) == (True, True, "numpy", "")
    assert [name for name, d in found.items() if d["usable"]] == [d.name for d in backends.usable_devices()]
    assert all(d["usable"] or d["reason"] for d in found.values())
    (suite,) = ElementTree.parse(path).getroot()
    assert suite.get("tests") == str(len(found))
    skipped = {case.get("name"): case[0].get("message") for case in suite if len(case)}
    assert skipped == {name: f"{d['reason']}; {d['fix']}" for name, d in found.items() if not d["usable"]}


def cases(path):
    """suite -> name of a case -> what kind of case it is, and the first line of what it says."""
    suites = ElementTree.parse(path).getroot()
    return {s.get("name"): {c.get("name"): [(x.tag, x.get("message")) for x in c] for c in s} for s in suites}


def test_what_the_doctor_found_as_test_cases(capsys, monkeypatch, tmp_path):
    path = tmp_path / "doctor.xml"
    arguments = ["doctor", "--device", "cpu", "--op", "abs", "--op", "tril", "--junit", str(path)]
    assert cli.main(arguments) == 0
    found = cases(path)["cpu"]
    assert found["abs, values"] == found["abs, gradient"] == []

    wrong = lambda x, *rest, **settings: np.tril(x, *rest, **settings) + 1  # noqa: E731
    monkeypatch.setattr(backends.device("cpu").xp, "tril", wrong, raising=False)
    assert cli.main(arguments) == 1
    ((kind, message),) = cases(path)["cpu"]["tril, values"]
    assert kind == "failure"
    assert message.startswith("tril, values, float32: ")
    assert cases(path)["cpu"]["abs, values"] == []
    capsys.readouterr()


def test_what_a_comparison_found_as_test_cases(capsys, monkeypatch, tmp_path):
    path = tmp_path / "compare.xml"
    arguments = ["compare", "xor", "--updates", "2", "--device", "cpu", "--device", "cpu", "--junit", str(path)]
    assert cli.main([*arguments, "--tolerance", "0"]) == 0
    assert cases(path) == {"xor": {"cpu": []}}

    far = lambda run: run.steps[0]._replace(loss_difference=Difference(3.0, 0.25))  # noqa: E731
    monkeypatch.setattr(cli, "_worst", far)
    assert cli.main([*arguments, "--tolerance", "0.3"]) == 0
    assert cli.main([*arguments, "--tolerance", "0.2"]) == 1
    said = "update 1: the loss on cpu is off by 2.5e-01, relatively, more than 0.2"
    assert cases(path) == {"xor": {"cpu": [("failure", said)]}}
    assert capsys.readouterr().err.endswith(f"xor, {said}\n")


@pytest.mark.parametrize("arguments", [["devices"], ["compare", "xor", "--device", "cpu,cpu", "--updates", "3"]])
def test_what_takes_long_says_in_a_log_where_it_is(arguments, capsys, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    assert cli.main(arguments) == 0
    assert re.match(r"(looking for devices: cpu|comparing xor: \d of 3 updates), \d s\n", capsys.readouterr().err)


# Milestones ---------------------------------------------------------------------------------------------------------


def test_the_milestones_for_other_programs(capsys, monkeypatch, tmp_path):
    path = tmp_path / "milestones.xml"
    assert milestones.main(["perceptron", "--seed", "1", "--json", "--junit", str(path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["seed"], found["interrupted"], found["passed"]) == (True, 1, False, found["gates"])
    (report,) = found["reports"]
    assert [s["name"] for s in report["subjects"]] == ["blobs", "AND", "OR"]
    suites = ElementTree.parse(path).getroot()
    assert [s.get("name") for s in suites][:2] == ["1957 perceptron on cpu: blobs", "1957 perceptron on cpu: AND"]
    assert sum(int(s.get("tests")) for s in suites) == found["gates"]

    monkeypatch.setattr(perceptron, "train", lambda *a, **k: 1 / 0)
    assert milestones.main(["perceptron", "--json", "--junit", str(path)]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False
    assert "ZeroDivisionError" in path.read_text()


def test_the_package_has_the_same_runner(capsys):
    def said(main, *arguments):
        assert main([*arguments, "perceptron", "--seed", "2", "--json"]) == 0
        return re.sub(r'"seconds": [\d.]+', "", capsys.readouterr().out)

    assert said(cli.main, "milestones") == said(milestones.main)


@pytest.mark.parametrize("command", ["milestones", "sabotage"])
@pytest.mark.skipif(os.name != "posix", reason="starts again where a process can be replaced")
def test_numpy_is_imported_with_one_thread_unless_told_otherwise(command, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nclass Watch:\n    def find_spec(self, name, *rest):\n        if name == 'numpy':\n"
        "            print(os.environ.get('OPENBLAS_NUM_THREADS'), flush=True)\nsys.meta_path.insert(0, Watch())\n"
    )
    for given, used in (({}, ["None", "1"]), ({"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}, ["2"])):
        done = python("-m", "tinytorch", command, "--version", PYTHONPATH=str(tmp_path), **given)
        assert done.stdout.split() == [*used, "tinytorch", "0.1.0"]


# How they end -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_interrupt_of_the_milestones_shows_what_is_done(options, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(xor, "train", interrupt)
    page = tmp_path / "page.md"
    page.write_text(f"{milestones.START} old {milestones.END}")
    status = milestones.main(["perceptron", "xor", "cnn_digits", "--write", str(page), *options])
    out, err = capsys.readouterr()
    assert status == commands.INTERRUPTED == 130
    assert err.splitlines()[-1] == "interrupted: 1 of 3 chapters are done"
    assert "Traceback" not in out + err
    assert " old " in page.read_text()
    if options:
        found = json.loads(out)
        assert (found["interrupted"], found["ok"], [r["name"] for r in found["reports"]]) == (
            True,
            False,
            ["1957 perceptron"],
        )
    else:
        assert "1957 perceptron: OR" in out


def test_an_interrupt_of_a_comparison_shows_the_recipes_that_are_done(capsys, monkeypatch):
    find = cli.find_recipe
    monkeypatch.setattr(cli, "find_recipe", lambda name: interrupt if name == "perceptron" else find(name))
    assert cli.main(["compare", "xor", "perceptron", "--device", "cpu,cpu", "--updates", "2"]) == 130
    out, err = capsys.readouterr()
    assert "xor, float32, seed 0" in out
    assert err.splitlines()[-1] == "interrupted: 1 of 2 recipes are done"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_interrupt_of_the_doctor_shows_what_was_examined(options, capsys, monkeypatch):
    case = examiner._Examiner.case
    stops = lambda self, row, dtype: interrupt() if row.op == "multiply" else case(self, row, dtype)  # noqa: E731
    monkeypatch.setattr(examiner._Examiner, "case", stops)
    assert cli.main(["doctor", "--device", "cpu", "--op", "add", "--op", "multiply", *options]) == 130
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == "interrupted: 0 of 1 devices are done, and a part of cpu"
    if options:
        assert "add" in json.loads(out)["cpu"]["checked"]["values"]
    else:
        assert re.search(r"values +1 +0 +0", out)


def test_an_interrupt_of_the_sabotage_shows_the_bugs_that_are_done(capsys, monkeypatch):
    monkeypatch.setattr(sabotage, "row", lambda bug, say: interrupt() if bug == "loss_zero" else {"movement": "P"})
    assert sabotage.main(["sign_flip", "loss_zero"]) == 130
    out, err = capsys.readouterr()
    assert "movement P" in out
    assert "1 of 1 bugs caught" in out
    assert err.splitlines()[-1] == "interrupted: 1 of 2 bugs are done"


PROCESS = "import sys; from tinytorch.commands import process; sys.exit(process(lambda: {}))"


@pytest.mark.parametrize(
    ("command", "own"),
    [
        (["-m", "tinytorch", "devices"], True),
        (["-m", "tinytorch.milestones", "xor"], True),
        (["-m", "milestones", "xor"], True),
        (["bin/tinytorch", "devices"], True),
        (["theirs/tinytorch", "devices"], False),
        (["-m", "tinytorch.doctor"], False),
        (["-c", "import tinytorch"], False),
        (["-m", "theirs"], False),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_an_interrupt_of_the_first_imports_is_one_line_of_a_command_and_left_to_other_programs(command, own, tmp_path):
    interrupts = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n"
    (tmp_path / "numpy.py").write_text(interrupts)
    (tmp_path / "theirs").mkdir()
    for name in ("__init__", "__main__"):
        (tmp_path / f"theirs/{name}.py").write_text("import tinytorch\n")
    (tmp_path / "theirs/tinytorch").write_text("import tinytorch\n")
    (tmp_path / "bin").mkdir()
    script = "import sys\nfrom tinytorch.__main__ import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
    (tmp_path / "bin/tinytorch").write_text(f"#!{sys.executable}\n{script}")  # as installers write it
    root = Path(tinytorch.__file__).resolve().parents[1]
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)])}
    begin = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # it may be ignored
    (tmp_path / "sitecustomize.py").write_text(begin)
    done = python(*command, cwd=tmp_path, **env)
    if own:
        assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
    else:
        assert done.stderr.endswith("KeyboardInterrupt\n")


def test_an_interrupt_elsewhere_is_one_line():
    heeded = "[s := __import__('signal'), s.signal(2, s.default_int_handler), s.raise_signal(2)]"  # whoever started it
    done = python("-c", PROCESS.format(heeded))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="pipes end otherwise here")
@pytest.mark.parametrize(
    "command",
    [["tinytorch", "devices"], ["milestones", "perceptron"], ["tinytorch", "sabotage", "--help"]],
    ids=" ".join,
)
def test_a_reader_that_has_read_enough_ends_it_without_a_word(command):
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    _, err = process.communicate(timeout=120)
    said = [line for line in err.splitlines() if not line.startswith(b"looking for devices: ")]  # where that takes long
    assert (process.returncode, said) == (-signal.SIGPIPE, [])


# Elsewhere than in a checkout ---------------------------------------------------------------------------------------


def test_a_recipe_is_looked_for_in_the_current_folder(capsys, monkeypatch, tmp_path):
    (tmp_path / "my_recipe.py").write_text("from tests.test_compare import recipe as train\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    before = list(sys.path)
    assert cli.main(["compare", "my_recipe:train", "--device", "cpu,cpu", "--updates", "2"]) == 0
    assert "my_recipe:train, float32" in capsys.readouterr().out
    assert sys.path == before


def test_the_tour_is_copied_and_overwrites_nothing(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["tour"]) == 0
    assert "python -m pytest test_tour.py" in capsys.readouterr().out
    text = (tmp_path / "test_tour.py").read_text("utf-8")
    assert "def test_an_op_is_its_result_and_a_rule_for_each_tensor" in text
    (tmp_path / "test_tour.py").write_text("mine")
    assert cli.main(["tour"]) == 2
    assert "test_tour.py is there already; name another file" in capsys.readouterr().err
    assert (tmp_path / "test_tour.py").read_text() == "mine"
    assert cli.main(["tour", "other.py"]) == 0
    assert (tmp_path / "other.py").read_text("utf-8") == text
