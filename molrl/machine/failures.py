"""One line for an error that ends a command: what failed, and where."""

import os
from types import TracebackType

MEMORY_WORDS = ("can't allocate memory", "out of memory", "std::bad_alloc")  # of RuntimeErrors that have no type
PACKAGE = "molrl"


def describe_failure(error: BaseException) -> str:
    """Return the message of an error, with the file or the function that it is about where it names none itself."""
    text = " ".join(line.strip() for line in str(error).splitlines())
    if isinstance(error, OSError) and error.errno is not None:
        reason = error.strerror or os.strerror(error.errno)
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
        return f"{' -> '.join(names)}: {reason}" if names else f"{reason} (in {place_of(error)})"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and is_memory(text)):
        detail = f" ({text:.200})" if text else ""
        return f"out of memory in {place_of(error)}{detail}"
    return text or f"{type(error).__name__} in {place_of(error)}"


def is_memory(text: str) -> bool:
    """Return whether the message of a RuntimeError of torch or of C++ is that of a full memory, and names no place."""
    return any(word in text for word in MEMORY_WORDS) and not text.startswith("out of memory (")


def place_of(error: BaseException) -> str:
    """Return the innermost function of this package that an error passed through, as module.function."""
    found, trace = "an unknown place", error.__traceback__
    while trace is not None:
        found = function_of(trace) or found
        trace = trace.tb_next
    return found


def function_of(trace: TracebackType) -> str:
    """Return the module and function of a frame of this package; "" for one of another."""
    module = str(trace.tb_frame.f_globals.get("__name__", ""))
    ours = module.partition(".")[0] == PACKAGE
    return f"{module}.{trace.tb_frame.f_code.co_qualname}" if ours else ""
