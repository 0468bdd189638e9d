"""The extension of `native/`, where it is built and belongs to this source; else None: Python does the work. Pure."""

from types import ModuleType

try:
    import order_scan
except ImportError:
    order_scan = None

VERSION = "1.0.0"
"""Of native/Cargo.toml. It rises with whatever the extension does otherwise: an upgrade may leave an old one behind."""


def fitting(built: ModuleType | None) -> ModuleType | None:
    """Return the module if it is of this version."""
    return built if getattr(built, "VERSION", None) == VERSION else None


EXTENSION = fitting(order_scan)
