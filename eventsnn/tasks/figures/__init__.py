"""Figures of the tasks: functions of arrays, independent of the task classes.

They import matplotlib, which is slow. Tasks therefore import them only to draw.
"""
