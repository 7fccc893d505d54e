from .. import engine  # noqa: F401  the two import each other: whichever is asked for, the engine comes first
