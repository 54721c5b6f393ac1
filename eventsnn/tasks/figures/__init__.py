"""Figures of the tasks: functions of arrays that know no task.

They import matplotlib, which takes long. Tasks therefore import them when they draw.
"""
