"""Columns: the protein route and ligand-assisted displacement."""
