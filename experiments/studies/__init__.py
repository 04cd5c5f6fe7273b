"""One file per study: a module with a global STUDY. Its name is the file's name, its docstring is the documentation."""
