"""Figures of the tasks."""
