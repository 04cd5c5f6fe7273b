"""One file per study. A module here with a global STUDY is found by its file's name; its docstring documents it."""
