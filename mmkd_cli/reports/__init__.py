"""Pages, plots, tables for the terminal, and the rows of the papers that may be quoted."""
