"""Flowsheets, equipment, money, impacts, and the routes side by side."""
