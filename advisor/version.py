"""The version of the program; a test holds it equal to pyproject.toml and to the changelog."""

TOOL_VERSION = "0.1.0"
"""Read from here rather than from the installed metadata, which takes as long to import as everything else together."""

VERSION_LINE = f"qadvisor {TOOL_VERSION}\n"
"""What `qadvisor --version` prints."""
