"""The command `qadvisor`: one file a command; each parses, calls the library, renders. Nothing is computed here."""
