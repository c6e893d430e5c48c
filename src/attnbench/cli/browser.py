"""The browser of whoever sits at the terminal."""

import os
import sys
import webbrowser


def browse(address: str) -> bool:
    """Show an address in a browser; False where nobody sits before one."""
    screen = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    return sys.stdout.isatty() and screen and webbrowser.open(address)
