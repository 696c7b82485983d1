"""A process that is forked while other threads train: the child works, and does not wait for threads it has not."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

START = """
import os, signal, sys, threading, time
import tinytorch
from tinytorch import nn

def train(steps=1):
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.GELU(), nn.Linear(4, 1))
    optimizer = tinytorch.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(tinytorch.rand(5, 3)) ** 2).mean()
        loss.backward()
        optimizer.step()

def ask():
    try:
        tinytorch.device("strict")  # imported on first use
    except tinytorch.Unavailable:
        pass

def child(work):
    \"\"\"Whether a forked process does the work within ten seconds.\"\"\"
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        try:
            work()
        except BaseException as error:
            print(type(error).__name__, error, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0
"""


def run(script):
    """What a new process prints; Python 3.12 warns of every fork among threads."""
    code = START + textwrap.dedent(script)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_forty_forks_while_threads_train():
    out = run(
        """
        over = threading.Event()

        def others():
            while not over.is_set():
                train(3)
                try:
                    tinytorch.device("nowhere")
                except ValueError:
                    pass

        threads = [threading.Thread(target=others, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        sys.setswitchinterval(1e-5)

        def work():
            train()
            ask()
            tinytorch.erf(tinytorch.asarray([0.5])).sum().item()

        print(sum(child(work) for _ in range(40)))
        over.set()
        for thread in threads:
            thread.join()
        """
    )
    assert out == ["40"]


@pytest.mark.parametrize(
    ("lock", "work"),
    [
        ("tinytorch.autograd._committing", "train"),
        ("tinytorch.backends.registry._lock", "ask"),
        ("tinytorch.random.generator.bit_generator.lock", "lambda: tinytorch.rand(2)"),
        ("tinytorch.backends.forks.importing", "lambda: tinytorch.verify"),
    ],
    ids=["gradients", "devices", "numbers", "imports"],
)
def test_a_fork_waits_until_a_lock_is_free(lock, work):
    out = run(
        f"""
        held = threading.Event()

        def hold():
            with {lock}:
                held.set()
                time.sleep(0.5)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(10)
        print(child({work}))
        thread.join()
        if isinstance({lock}, type(threading.RLock())):
            with {lock}:
                print(child({work}))  # the thread that forks may hold it
        else:  # of NumPy's generators, in its older versions
            print(child({work}))
        ({work})()
        """
    )
    assert out == ["True", "True"]


@pytest.mark.parametrize("module", ["array_api_compat.numpy", "numpy.polynomial", "tinytorch.verify"])
def test_a_fork_waits_for_an_import_that_another_thread_has_begun(module):
    """What is imported on first use, halfway: Python keeps the lock of that module in the child for good."""
    use = {
        "array_api_compat.numpy": "sys.modules['tinytorch.backends.cpu_functions'].Namespace().cumulative_prod",
        "numpy.polynomial": "sys.modules['tinytorch.backends.standard']._erf_coefficients()",
        "tinytorch.verify": "tinytorch.verify",
    }[module]
    out = run(
        f"""
        import importlib.abc
        importlib.import_module("tinytorch.backends.cpu")
        for name in [name for name in sys.modules if name.startswith({module!r})]:
            del sys.modules[name]
        begun = threading.Event()

        class Slow(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path, target=None):
                if name == {module!r} and not begun.is_set():
                    begun.set()
                    time.sleep(0.5)

        sys.meta_path.insert(0, Slow())
        thread = threading.Thread(target=lambda: {use})
        thread.start()
        begun.wait(10)
        print(child(lambda: {use}))
        thread.join()
        """
    )
    assert out == ["True"]


def test_a_lock_that_is_made_while_a_fork_waits_is_waited_for_too():
    out = run(
        """
        from tinytorch.backends import forks
        made, held, begun = [], [], threading.Event()

        def others():  # as a thread does that imports a library on first use
            with forks.importing:
                begun.set()
                time.sleep(0.3)
                made.append(forks.over_forks(threading.Lock()))
                made[0].acquire()
            time.sleep(0.5)
            held.append(made[0].locked())
            made[0].release()

        thread = threading.Thread(target=others)
        thread.start()
        begun.wait(10)
        print(child(lambda: made[0].acquire()))
        thread.join()
        print(held[0], made[0].acquire(timeout=5))
        """
    )
    assert out == ["True", "True", "True"]


@pytest.mark.parametrize("work", ["tinytorch.devices", "lambda: tinytorch.device('slow')"])
def test_a_fork_waits_while_a_library_looks_for_its_devices(work):
    """JAX holds a lock of its own meanwhile, which the child would wait for."""
    out = run(
        f"""
        from tinytorch import backends
        from tinytorch.backends.cpu import CpuDevice
        own, begun = threading.Lock(), threading.Event()

        class Slow(CpuDevice):
            @classmethod
            def available(cls):
                with own:
                    begun.set()
                    time.sleep(0.5)
                return ["slow"]

            @classmethod
            def canonical(cls, index):
                return cls.available()[0]

        backends.register("slow", Slow)
        thread = threading.Thread(target={work})
        thread.start()
        begun.wait(10)
        print(child(Slow.available))
        thread.join()
        """
    )
    assert out == ["True"]
