"""The pure part: no await, no I/O, no clock, no logging. What time it is, it is told."""
