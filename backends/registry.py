"""The devices: which exist, which are usable, what is missing for the others, and which is the default.

A family ("cpu", "cuda", ...) is registered under its name with a factory: a subclass of `Device`, or the place to
import the subclass from, so that an array library is imported only when somebody asks for its device. Other
distributions add families through the entry-point group `tinytorch.backends`.
"""

from __future__ import annotations

import importlib
import os
import threading
from contextlib import suppress
from typing import Any, NamedTuple

from tinytorch.backends.device import Array, Device, Unavailable, _stack
from tinytorch.backends.forks import over_forks

ENTRY_POINTS = "tinytorch.backends"
VARIABLE = "TINYTORCH_DEVICE"


class Family(NamedTuple):
    """What the registry knows of one family."""

    factory: type[Device] | str  # the class, or "module:Class" until first used
    library: str = ""  # the top-level module of the family's arrays, if given
    foreign: bool = False  # whether another distribution offers the family
    failed: str = ""  # why a foreign class cannot be imported


_STAND_INS = {"jax": "jaxlib"}  # where what a library passes around in place of its arrays is, and where they are

_families: dict[str, Family] = {}  # by name
_devices: dict[str, Device] = {}  # canonical name -> the one Device of that name
_lock = over_forks(threading.RLock())
_default: Device | None = None
_automatic: Device | None = None  # the device that "auto" in the environment means
_discovered = False
_refused: list[DeviceInfo] = []  # lines for offered families that cannot be registered


class DeviceInfo(NamedTuple):
    """A line of `devices()`: a device; or a family without a usable device, and the reason."""

    name: str
    library: str
    usable: bool
    reason: str = ""  # why the device is not usable
    fix: str = ""  # how to make it usable


def register(name: str, factory: type[Device] | str, library: str = "") -> None:
    """Make a family of devices known under `name`.

    Args:
        name: the start of a device's name: "cuda" in "cuda:1".
        factory: a subclass of `Device`, or "module:Class", imported when a device of the family is first asked for.
        library: the top-level module of the family's arrays. With it, `device_of` need not import "module:Class" to
            tell whether an array is the family's.

    Raises:
        TypeError: an argument is of a wrong kind.
        ValueError: the name is taken by another factory, or holds a colon.
    """
    if not isinstance(name, str):
        raise TypeError(f"register: name is a string, such as 'mine', not {type(name).__name__}")
    if not isinstance(library, str):
        raise TypeError(f"register: library is the name of a module, not {type(library).__name__}")
    if not (isinstance(factory, str) or (isinstance(factory, type) and issubclass(factory, Device))):
        raise TypeError(f"register: factory is a subclass of Device, or 'module:Class', not {factory!r}")
    if ":" in name or not name:
        raise ValueError(f"register: a family is a word without a colon, not {name!r}")
    if name == "auto":
        raise ValueError("register: 'auto' means the first usable GPU and cannot be registered")
    with _lock:
        known = _families.setdefault(name, Family(factory))
        if known.factory != factory:
            raise ValueError(f"register: {name!r} is registered already, for {known.factory}")
        _families[name] = known._replace(library=library or known.library)


def unregister(name: str) -> None:
    """Forget a family and its devices, so that the name can be registered anew. Arrays on the devices stay as they are.

    Raises:
        TypeError: the name is no string.
        ValueError: there is no such family.
    """
    if not isinstance(name, str):
        raise TypeError(f"unregister: name is a string, such as 'mine', not {type(name).__name__}")
    with _lock:
        if name not in _families:
            raise ValueError(f"unregister: no family {name!r}; there are {', '.join(sorted(_families))}")
        del _families[name]
        for known in [d for d in _devices if d.partition(":")[0] == name]:
            del _devices[known]


def device(spec: str | Device | None = None) -> Device:
    """The device of a name; None is the default device, "auto" the first usable GPU, else the CPU.

    >>> device("cpu") is device("cpu")
    True

    Raises:
        ValueError: there is no such family, or the family has no such index.
        Unavailable: the device is known but not usable here; the message says why, and how to mend that.
    """
    if isinstance(spec, Device):
        return spec
    if spec is None:
        return default_device()
    if not isinstance(spec, str):
        raise TypeError(f"device: a name such as 'cpu' or 'cuda:1', not {type(spec).__name__}")
    found = _devices.get(spec)
    if found is not None:
        return found
    if spec == "auto":
        return next((d for d in usable_devices() if d.is_gpu), None) or device("cpu")
    family, _, index = spec.partition(":")
    cls = _family(family)
    try:
        with _lock:  # see `_listed`
            name = cls.canonical(index)
            if _families[family].foreign and name.partition(":")[0] != family:
                raise TypeError(f"it calls itself {name!r}")
            if name not in _devices:
                made = cls(name.partition(":")[2])
                made.name = name
                _devices[name] = made
            return _devices[name]
    except (ValueError, Unavailable):
        raise
    except (Exception, SystemExit) as error:  # in another distribution's class
        raise Unavailable(f"{spec}: {_reason(error)}") from error


def devices() -> list[DeviceInfo]:
    """Every known device; if it is not usable, the reason and the fix."""
    _discover()
    return [info for family in list(_families) for info in _listed(family)] + _refused


def _listed(family: str) -> list[DeviceInfo]:
    """The lines of a family. An error of another distribution's family becomes its line, and is raised nowhere."""
    library = _families[family].library
    try:
        cls = _family(family)
        library = str(getattr(cls, "library", library))
        with _lock:  # the library may hold a lock of its own meanwhile; so a fork waits
            names = list(cls.available())
        if not names:
            return [DeviceInfo(family, library, False, "there is no such device")]
        return [_line(family, library, name) for name in names]
    except Unavailable as error:
        return [DeviceInfo(family, library, False, error.reason, error.fix)]
    except (Exception, SystemExit) as error:
        return [DeviceInfo(family, library, False, _reason(error))]


def _line(family: str, library: str, name: Any) -> DeviceInfo:
    """The line of an available device. A device of another distribution is made, to see whether that works."""
    if not isinstance(name, str) or name.partition(":")[0] != family:
        return DeviceInfo(family, library, False, f"a device that it calls {name!r}, not '{family}' or '{family}:...'")
    if _families[family].foreign:
        try:
            device(name)
        except Unavailable as error:
            return DeviceInfo(name, library, False, error.reason, error.fix)
        except ValueError as error:
            return DeviceInfo(name, library, False, _reason(error))
    return DeviceInfo(name, library, True)


def _reason(error: BaseException) -> str:
    """An error of another distribution, as one line."""
    try:
        text = str(error).strip().partition("\n")[0]
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def families() -> list[str]:
    """The names of all families, usable or not. No library is imported."""
    _discover()
    return list(_families)


def usable_devices() -> list[Device]:
    """The devices that can be used on this machine now."""
    found = []
    for info in devices():
        if info.usable:
            with suppress(Unavailable):  # a device that does not start
                found.append(device(info.name))
    return found


def default_device() -> Device:
    """The device of new arrays: of the innermost `with`, else as set, else from `TINYTORCH_DEVICE`, else "cpu"."""
    stack = _stack()
    if stack:
        return stack[-1]
    if _default is not None:
        return _default
    named = os.environ.get(VARIABLE)
    return _from_environment(named) if named else device("cpu")


def _from_environment(named: str) -> Device:
    """The device that `TINYTORCH_DEVICE` names; "auto" is resolved once."""
    global _automatic
    try:
        if named != "auto":
            return device(named)
        _automatic = _automatic or device(named)
        return _automatic
    except (ValueError, Unavailable) as error:
        error.args = (f"{error} (from the environment variable {VARIABLE})",)
        raise


def set_default_device(spec: str | Device | None) -> None:
    """Set the device of new arrays for the whole process; `None` goes back to `TINYTORCH_DEVICE` or "cpu"."""
    global _default
    _default = None if spec is None else device(spec)


def device_of(array: Array) -> Device:
    """The device that holds an array of any library whose family is registered.

    Raises:
        TypeError: no registered family holds such arrays.
    """
    library = type(array).__module__.partition(".")[0]
    library = _STAND_INS.get(library, library)
    _discover()
    for name, family in list(_families.items()):
        if family.library in ("", library):
            try:
                cls = _family(name)
            except Unavailable:
                continue
            if getattr(cls, "library", None) == library:
                return device(cls.of(array))
    raise TypeError(
        f"device_of: no registered device holds {type(array).__module__}.{type(array).__qualname__} objects"
    )


def _family(name: str) -> type[Device]:
    """The class of a family, imported now if it is not yet."""
    if name not in _families:
        _discover()
    with _lock:
        family = _families.get(name)
        if family is None:
            known = ", ".join(sorted(_families))
            raise ValueError(f"device: no family {name!r}; there are {known} and 'auto', with an index as in 'cuda:1'")
        factory = family.factory
        if isinstance(factory, str):
            if family.failed:  # an import that fails is not tried again
                raise Unavailable(family.failed)
            module, _, attribute = factory.partition(":")
            try:
                loaded: Any = getattr(importlib.import_module(module), attribute)
                if not (isinstance(loaded, type) and issubclass(loaded, Device)):
                    raise TypeError("it is not a subclass of Device")
            except Unavailable:
                raise
            except (Exception, SystemExit) as error:
                reason = f"{name}: {factory} cannot be imported: {_reason(error)}"
                if family.foreign:
                    _families[name] = family._replace(failed=reason)
                raise Unavailable(reason) from error
            factory = loaded
            _families[name] = family._replace(factory=factory)
    return factory


def _discover() -> None:
    """Register, once, the families that other distributions offer. An offer that is refused becomes a line."""
    global _discovered
    with _lock:
        if _discovered:
            return
        import importlib.metadata  # imported late: it takes as long as the rest of the package

        refused = []
        try:
            entries = list(importlib.metadata.entry_points(group=ENTRY_POINTS))
        except Exception as error:  # unreadable metadata of some distribution
            entries = []
            refused.append(DeviceInfo("entry points", "", False, _reason(error)))
        for entry in entries:
            known = getattr(_families.get(entry.name), "factory", None)
            if isinstance(known, type) and f"{known.__module__}:{known.__qualname__}" == entry.value:
                continue  # the distribution has registered the family itself
            try:
                register(entry.name, entry.value)
                _families[entry.name] = _families[entry.name]._replace(foreign=True)
            except ValueError as error:
                refused.append(DeviceInfo(entry.name, "", False, f"{entry.value}: {error}"))
        _refused[:] = refused
        _discovered = True
