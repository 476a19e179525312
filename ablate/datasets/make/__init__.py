"""Data sets in the layout of their shelf, made from the archives that their authors publish."""
