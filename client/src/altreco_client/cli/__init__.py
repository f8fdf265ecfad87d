"""The `altreco` command."""
