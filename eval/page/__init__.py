"""The report as a page: lines, tables, plots, HTML and Markdown."""
