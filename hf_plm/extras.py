"""Packages that only some users need: they are imported when they are used, and the extra `all` installs them."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

USES = {
    "matplotlib": "matplotlib, which draws pictures,",
    "rich": "rich, which prints tables in the terminal,",
    "PIL": "Pillow, which reads pictures,",
}
"""The use of each package of the extra `all`."""


@contextmanager
def needed(package: str) -> Iterator[None]:
    """A context that imports or uses a package of `USES`; if it is not installed, the error says what to install.

    Raises:
        ModuleNotFoundError: if something could not be imported, and the package is not installed.
    """
    try:
        yield
    except ImportError:
        if find_spec(package) is not None:
            raise
        message = f'{USES[package]} is not installed; run: pip install "hf_plm[all]"'
        raise ModuleNotFoundError(message, name=package) from None
