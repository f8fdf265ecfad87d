"""Importers of NUS-WIDE, YFCC100M and parallel text files into a data set folder; see docs/data.md."""
