"""Importers: from NUS-WIDE, YFCC100M and parallel text files to a data set folder. See docs/data.md."""
