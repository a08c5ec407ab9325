"""The commands of ``loom``, a module each; `loom_py.cli.table` lists them."""
